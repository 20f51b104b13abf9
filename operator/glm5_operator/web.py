"""Probes and metrics over HTTP."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from glm5_operator.errors import SettingsError
from glm5_operator.liveness import Liveness
from glm5_operator.metrics import REGISTRY
from glm5_operator.settings import Settings


class Web:
    """Serves /healthz and /readyz on the port for probes, /metrics on its own."""

    def __init__(self, settings: Settings, liveness: Liveness) -> None:
        self._settings = settings
        self._liveness = liveness
        self._runners: list[web.AppRunner] = []
        self.ready = False
        """Whether the watch has begun."""

    async def start(self) -> None:
        """Begin to serve.

        Raises:
            SettingsError: a port is taken.
        """
        probes = [web.get("/healthz", self._health), web.get("/readyz", self._readiness)]
        await self._serve(self._settings.probe_port, probes)
        await self._serve(self._settings.metrics_port, [web.get("/metrics", _metrics)])

    async def stop(self) -> None:
        """End serving."""
        for runner in self._runners:
            await runner.cleanup()

    async def _serve(self, port: int, routes: list[web.RouteDef]) -> None:
        if not port:
            return
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        try:
            await web.TCPSite(runner, self._settings.host, port).start()
        except OSError as error:
            where = f"{self._settings.host}:{port}"
            raise SettingsError(f"cannot listen on {where}: {error}; choose another port, or 0 for none") from error

    async def _health(self, _: web.Request) -> web.Response:
        if self._liveness.alive:
            return web.Response(text="ok\n")
        seconds = self._liveness.deaf_for()
        return web.Response(status=503, text=f"the API server has had news for {seconds:.0f} s that our watch missed\n")

    async def _readiness(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n") if self.ready else web.Response(status=503, text="starting\n")


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

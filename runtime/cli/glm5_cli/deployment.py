"""A `GLM5Deployment` file as a layout of local processes."""

from pathlib import Path

from glm5_cli.errors import CliError
from glm5_cli.layout import Layout
from glm5_spec.resource import ResourceError, load_deployment, unused_locally


def layout_from_file(path: str, model: str | None) -> tuple[Layout, list[str]]:
    """Return the layout of the file, and the names of fields that mean nothing on one machine.

    Args:
        path: YAML file with one GLM5Deployment.
        model: checkpoint folder here; the file names a place in the cluster.

    Raises:
        CliError: the file is wrong, or nobody said where the model is.
    """
    try:
        deployment = load_deployment(path)
    except ResourceError as error:
        raise CliError(str(error)) from error
    if model is None:
        raise CliError(f"{path} names a model in a cluster; say where it is on this machine with --model DIR")
    spec = deployment.spec
    layout = Layout(
        model_path=str(Path(model)),
        served_names=tuple(spec.model.served_names),
        gateways=spec.gateway.initial_replicas,
        prefill=spec.prefill.initial_replicas,
        decode=spec.decode.initial_replicas,
        shards=spec.experts.shards,
        groups=spec.experts.initial_replicas,
        dtype=spec.dtype,
        numerics=spec.numerics,
    )
    return layout, unused_locally(deployment)

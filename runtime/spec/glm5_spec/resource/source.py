"""Which model is served, and where its files come from."""

from typing import Annotated

from pydantic import Field, StringConstraints

from glm5_spec.resource.base import ResourceModel, Rule, exactly_one, one_of
from glm5_spec.resource.text import HttpUrl, ObjectName

VolumePath = Annotated[str, StringConstraints(pattern=r"^[^\s\\]+$", min_length=1, max_length=1024)]
ServedName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9._/:]*[A-Za-z0-9])?$", min_length=1, max_length=128)
]


class PersistentVolumeClaimSource(ResourceModel):
    """A folder on a volume that exists; the whole volume is mounted read-only."""

    claim_name: ObjectName
    """The claim, in the namespace of the deployment; ReadOnlyMany or ReadWriteMany where pods run on several nodes."""
    path: VolumePath = "."
    """Folder of the checkpoint on the volume, relative to its root; "." is the root."""

    RULES = (
        Rule(
            "!self.path.startsWith('/') && self.path.split('/').all(part, part != '..')",
            "path is relative to the root of the volume and has no '..'",
            lambda self: not self.path.startswith("/") and ".." not in self.path.split("/"),
        ),
    )


class SecretKey(ResourceModel):
    """One key of a Secret in the namespace of the deployment."""

    name: ObjectName
    """Name of the Secret."""
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]
    """Key in the Secret."""


class HuggingFaceSource(ResourceModel):
    """A repository on a hub, downloaded once by a Job into a volume that every pod mounts read-only."""

    repo: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*/[A-Za-z0-9][-A-Za-z0-9._]*$", max_length=200)
    ]
    """Owner and name, for example zai-org/GLM-5."""
    revision: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*$", max_length=128)]
    """Commit or tag; a branch such as main is downloaded as it is on that day."""
    token_secret: SecretKey | None = None
    """Where the token for a private repository is."""
    cache_claim: ObjectName
    """The claim into which the files are written."""
    endpoint: HttpUrl = "https://huggingface.co"
    """Address of the hub or of a mirror."""

    @property
    def folder(self) -> str:
        """Return where on the volume the files are, relative to its root."""
        return f"{self.repo.replace('/', '--')}/{self.revision}"


class Source(ResourceModel):
    """Where the files of the model are: exactly one of its fields is set."""

    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """A folder on a volume that exists."""
    hugging_face: HuggingFaceSource | None = None
    """A repository on a hub."""

    RULES = (
        Rule(
            one_of("persistentVolumeClaim", "huggingFace"),
            "exactly one of persistentVolumeClaim and huggingFace is the source of the model",
            lambda self: exactly_one(self.persistent_volume_claim, self.hugging_face),
        ),
    )

    @property
    def claim(self) -> str:
        """Return the name of the claim that pods mount."""
        if self.hugging_face:
            return self.hugging_face.cache_claim
        assert self.persistent_volume_claim
        return self.persistent_volume_claim.claim_name

    @property
    def path(self) -> str:
        """Return the folder of the checkpoint, relative to the root of the claim's volume."""
        if self.hugging_face:
            return self.hugging_face.folder
        assert self.persistent_volume_claim
        return self.persistent_volume_claim.path


class ModelSpec(ResourceModel):
    """The model that is served."""

    revision: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", min_length=1, max_length=63)
    ]
    """A name of your own for these weights. Change it whenever the files change: pods of different revisions never
    exchange caches or expert rows, and every role rolls."""
    served_names: Annotated[list[ServedName], Field(min_length=1, max_length=16)]
    """Names by which clients ask for the model; the first is the one that answers carry."""
    source: Source
    """Where the files are."""

    RULES = (
        Rule(
            "self.servedNames.all(name, self.servedNames.exists_one(other, other == name))",
            "servedNames holds a name twice",
            lambda self: len(set(self.served_names)) == len(self.served_names),
        ),
    )

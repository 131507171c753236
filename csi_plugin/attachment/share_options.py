"""Options that shares are mounted with: those that say how the share is reached and cached.

None of these names another file, device or program of the host, or lets what is on the share have rights on it.
"""

import re
from typing import Any

from csi_plugin.attachment.connection_values import is_host

_LIMIT = 4096
_WORD = re.compile(r"[a-z][a-z0-9_.-]*(=[A-Za-z0-9_.:/@%\[\]+-]*)?")
_ANY = (
    "defaults ro rw sync async noexec nodev nosuid atime noatime relatime norelatime nodiratime diratime strictatime "
    "_netdev context fscontext defcontext rootcontext"
)
_NFS = (
    "vers nfsvers minorversion proto mountproto port mountport mountvers mounthost namlen clientaddr sec xprtsec "
    "rsize wsize bsize timeo retrans retry hard soft softerr softreval nosoftreval intr nointr fg lock nolock "
    "local_lock ac noac acregmin acregmax acdirmin acdirmax actimeo nconnect max_connect trunkdiscovery "
    "notrunkdiscovery sharecache nosharecache fsc nofsc cto nocto acl noacl rdirplus nordirplus resvport noresvport "
    "tcp udp rdma lookupcache migration nomigration posix write"
)
_GLUSTER = (
    "backupvolfile-server backup-volfile-servers log-level direct-io-mode transport volfile-server-transport "
    "attribute-timeout entry-timeout negative-timeout use-readdirp fetch-attempts background-qlen acl selinux "
    "reader-thread-count event-history gid-timeout"
)
_ALLOWED = {
    "nfs": {*_ANY.split(), *_NFS.split()},
    "glusterfs": {*_ANY.split(), *_GLUSTER.split()},
}
_OF_HOSTS = ("mounthost", "backupvolfile-server", "backup-volfile-servers")
"""Those that name servers, besides that of the share."""


def fault(protocol: str, options: Any) -> str | None:
    """What is wrong with a connection's options of mount ("-o vers=4.1,hard"); None where nothing is."""
    if not isinstance(options, str) or len(options) > _LIMIT:
        return f"must be options of mount in a text of at most {_LIMIT} characters"
    allowed = _ALLOWED.get(protocol, set(_ANY.split()))
    for option in _options(options):
        name = option.partition("=")[0]
        if option and (name not in allowed or not _WORD.fullmatch(option)):
            shown = name if re.fullmatch(r"[\w.-]{1,40}", name) else "one that is none"
            return f"has {shown}, and must have options of mount for {protocol} alone: {', '.join(sorted(allowed))}"
        if not all(map(is_host, _named_hosts(option))):
            return f"has {name}, which must be an IPv4 or IPv6 address or a host name"
    return None


def hosts(options: Any) -> list[str]:
    """Servers that are named by options in which nothing is wrong."""
    return [host for option in _options(str(options or "")) for host in _named_hosts(option)]


def _options(options: str) -> list[str]:
    words = [word for word in options.split() if word != "-o"]
    return [word.removeprefix("-o") for word in ",".join(words).split(",")]


def _named_hosts(option: str) -> list[str]:
    name, _, value = option.partition("=")
    if name not in _OF_HOSTS or not value:
        return []
    # GlusterFS has colons between servers, and so takes no address of IPv6 there.
    return value.split(":") if name == "backup-volfile-servers" else [value.removeprefix("[").removesuffix("]")]

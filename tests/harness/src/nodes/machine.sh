#!/bin/sh
# The first process of a node: joins a control group of its own, makes everything else its own as well (processes,
# network, mounts, host name), and puts empty file systems where a kubelet and a container runtime write. So what they
# leave goes with this process, and nothing of it is ever on the host.
#
# usage: machine.sh host NAME CGROUP     (CGROUP: a name for its control groups)
#        machine.sh join NAME CGROUP     (what the first one becomes, in the new namespaces)
#        machine.sh node NAME            (what that becomes, in its control group)
#        machine.sh run CGROUP PID ...   (runs a command in the node whose first process is PID)
set -eu

# Where groups for nodes are made: of each hierarchy of version 1, beneath the group that this process is in; of version 2,
# beneath the root, as elsewhere a group with processes cannot have controllers for the groups beneath it.
groups() {
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        echo /sys/fs/cgroup
        return
    fi
    while IFS=: read -r _ controllers group; do
        # Beside version 1, version 2 has no controllers.
        [ -n "$controllers" ] || continue
        root=/sys/fs/cgroup/${controllers#name=}
        # In a container the path may be one of the host's.
        if [ -d "$root$group" ]; then echo "$root$group"; else echo "$root"; fi
    done </proc/self/cgroup
}

# Of version 2: lets the groups beneath a group have the controllers that a kubelet wants.
offer_controllers() {
    for controller in cpuset cpu memory pids; do
        grep -qw "$controller" "$1/cgroup.subtree_control" || echo "+$controller" >"$1/cgroup.subtree_control" || {
            echo "control groups beneath $1 cannot have the controller $controller: run this outside of a container," \
                "or in one with the machine's control groups (docker run --privileged --cgroupns=host)" >&2
            exit 1
        }
    done
}

# The groups of a node that its processes are in, as the host has them.
of_node() {
    for group in $(groups); do
        if [ -f "$group/cgroup.controllers" ]; then echo "$group/$1/init"; else echo "$group/$1"; fi
    done
}

# A migration that crosses the border of a cgroup namespace may be refused, so it comes before the namespace.
join() {
    for group in $(of_node "$1"); do
        echo 0 >"$group/cgroup.procs"
    done
}

case $1 in
host)
    for group in $(groups); do
        mkdir "$group/$3"
        if [ -f "$group/cpuset.cpus" ] && [ ! -f "$group/cgroup.controllers" ]; then
            cat "$group/cpuset.cpus" >"$group/$3/cpuset.cpus"
            cat "$group/cpuset.mems" >"$group/$3/cpuset.mems"
        fi
        [ ! -f "$group/cgroup.controllers" ] || offer_controllers "$group"
    done
    exec unshare --mount --propagation private --net --uts --ipc --pid --fork --kill-child=KILL sh "$0" join "$2" "$3"
    ;;
join)
    # The root of the namespace that comes is the group that this process is in.
    for group in $(groups); do
        echo 0 >"$group/$3/cgroup.procs"
    done
    exec unshare --cgroup sh "$0" node "$2"
    ;;
node)
    hostname "$2"
    ip link set lo up
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    if ! grep -q '^[1-9]' /proc/self/cgroup; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mkdir /sys/fs/cgroup/init
        echo 0 >/sys/fs/cgroup/init/cgroup.procs
        offer_controllers /sys/fs/cgroup
    else
        mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
        while IFS=: read -r _ controllers _; do
            [ -n "$controllers" ] || continue
            directory=/sys/fs/cgroup/${controllers#name=}
            mkdir "$directory"
            mount -t cgroup -o "$controllers" cgroup "$directory"
        done </proc/self/cgroup
    fi
    # Whatever else it would write, it does not.
    for directory in /etc /opt /usr; do
        mount --bind "$directory" "$directory"
        mount -o remount,bind,ro "$directory"
    done
    for directory in /run /var/lib /var/log; do
        mount -t tmpfs -o mode=755 tmpfs "$directory"
    done
    # Settings of the whole machine, which a kubelet insists on changing: it gets files that look like them.
    # https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/kubelet/cm/container_manager_linux.go (setupKernelTunables)
    mkdir /run/settings
    for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys \
        kernel/keys/root_maxbytes; do
        copy=/run/settings/$(basename "$setting")
        cat "/proc/sys/$setting" >"$copy"
        mount --bind "$copy" "/proc/sys/$setting"
    done
    # As on a node: what is mounted later reaches the containers that ask for it.
    mount --make-rshared /
    echo ready
    # From now on it only buries what becomes its child.
    while :; do
        sleep infinity &
        wait
    done
    ;;
run)
    join "$2"
    target=$3
    shift 3
    # nsenter waits outside for what it starts inside, which is to end with it.
    exec nsenter --target "$target" --mount --uts --ipc --net --pid --cgroup -- setpriv --pdeathsig KILL -- "$@"
    ;;
esac

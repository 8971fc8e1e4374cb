# shellcheck shell=sh
# What a power cut leaves behind is the disk: neither processes, nor their control groups, nor what is mounted or kept in
# memory, nor the bridge of the pods. Run on the node.
kill -KILL -1 2>/dev/null || true
# The first process of the node sleeps, and this shell looks.
while pids=$(pgrep --list-name --inverse --exact 'sleep|sh'); do
    [ $((n += 1)) -lt 100 ] || { echo "still there: $pids" >&2; exit 1; }
    sleep 0.1
done
find /sys/fs/cgroup -noleaf -depth -type d -path '*/kubepods*' -exec rmdir {} +
for directory in /run /var/lib/kubelet/pods /var/lib/containerd; do
    grep -o " $directory/[^ ]* " /proc/self/mounts | sort -r | while read -r mounted; do umount -l "$mounted"; done
done
find /run -mindepth 1 -maxdepth 1 ! -name settings -exec rm -rf {} +
ip link delete cni0 2>/dev/null || true

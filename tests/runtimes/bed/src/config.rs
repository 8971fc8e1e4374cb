//! The `config.json` of a test's container, as containerd writes one for a pod.

use serde_json::json;

use crate::start::Container;

/// What containerd gives a container that asks for nothing.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Stands where the profile goes.
const PLACE: &str = "<the profile>";

/// Differs from containerd's in what does not touch the loading of a filter: fewer mounts, the host's network, no
/// limits and no rules for devices (which need `CAP_SYS_RESOURCE` in crun).
pub(crate) fn config(container: &Container<'_>, rootfs: &str, cgroup: &str) -> String {
    let mut args = vec!["/probe".to_owned()];
    if !container.calls.is_empty() {
        args.push("h".to_owned());
    }
    args.extend(container.calls.iter().map(super::call::Call::argument));
    let mut process = json!({
        "user": { "uid": container.uid, "gid": container.uid, "additionalGids": [container.uid] },
        "args": args,
        "env": ["PATH=/"],
        "cwd": "/",
        "capabilities": {
            "bounding": CAPABILITIES,
            "effective": CAPABILITIES,
            "permitted": CAPABILITIES,
        },
    });
    // Go's `omitempty`: what is false is not written.
    if container.no_new_privs {
        process["noNewPrivileges"] = json!(true);
    }
    let mut linux = json!({
        "cgroupsPath": format!("/{cgroup}"),
        "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if container.seccomp.is_some() {
        linux["seccomp"] = json!(PLACE);
    }
    let config = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": rootfs, "readonly": true },
        "hostname": "probe",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
        ],
        "linux": linux,
    });
    // As text: a profile with a key twice or a number that is none must arrive as it is.
    let place = json!(PLACE).to_string();
    config
        .to_string()
        .replace(&place, container.seccomp.unwrap_or_default())
}

//! Of which arguments the kernel does not read all bits.
//!
//! Source: the `SYSCALL_DEFINE` of each call in Linux 6.18 (prototypes: `include/linux/syscalls.h`). Calls that 32-bit
//! architectures alone have are left out, since there no argument has more than 32 bits, and so are arguments of type
//! `unsigned long` that are checked in full, such as the flags of `mount` and `unshare`.

use super::super::super::model::Architecture;
use super::is_call;

/// Arguments of a 32-bit type, such as `int`, `pid_t`, `uid_t` and `key_t`, and those that are cut to one: descriptors, the
/// flags of `clone` and the mode of `mbind`. Sorted.
const BITS_32: &[(&str, &[u8])] = &[
    ("accept", &[0]),
    ("accept4", &[0, 3]),
    ("access", &[1]),
    ("add_key", &[4]),
    ("alarm", &[0]),
    ("arch_prctl", &[0]),
    ("bind", &[0, 2]),
    ("bpf", &[0, 2]),
    ("cachestat", &[0, 3]),
    ("chown", &[1, 2]),
    ("clock_adjtime", &[0]),
    ("clock_getres", &[0]),
    ("clock_gettime", &[0]),
    ("clock_nanosleep", &[0, 1]),
    ("clock_settime", &[0]),
    ("clone", &[0]),
    ("close", &[0]),
    ("close_range", &[0, 1, 2]),
    ("connect", &[0, 2]),
    ("copy_file_range", &[0, 2, 5]),
    ("delete_module", &[1]),
    ("dup", &[0]),
    ("dup2", &[0, 1]),
    ("dup3", &[0, 1, 2]),
    ("epoll_create", &[0]),
    ("epoll_create1", &[0]),
    ("epoll_ctl", &[0, 1, 2]),
    ("epoll_pwait", &[0, 2, 3]),
    ("epoll_pwait2", &[0, 2]),
    ("epoll_wait", &[0, 2, 3]),
    ("eventfd", &[0]),
    ("eventfd2", &[0, 1]),
    ("execveat", &[0, 4]),
    ("exit", &[0]),
    ("exit_group", &[0]),
    ("faccessat", &[0, 2]),
    ("faccessat2", &[0, 2, 3]),
    ("fadvise64", &[0, 3]),
    ("fallocate", &[0, 1]),
    ("fanotify_init", &[0, 1]),
    ("fanotify_mark", &[0, 1, 3]),
    ("fchdir", &[0]),
    ("fchmod", &[0]),
    ("fchmodat", &[0]),
    ("fchmodat2", &[0, 3]),
    ("fchown", &[0, 1, 2]),
    ("fchownat", &[0, 2, 3, 4]),
    ("fcntl", &[0, 1]),
    ("fcntl64", &[0, 1]),
    ("fdatasync", &[0]),
    ("fgetxattr", &[0]),
    ("file_getattr", &[0, 4]),
    ("file_setattr", &[0, 4]),
    ("finit_module", &[0, 2]),
    ("flistxattr", &[0]),
    ("flock", &[0, 1]),
    ("fremovexattr", &[0]),
    ("fsconfig", &[0, 1, 4]),
    ("fsetxattr", &[0, 4]),
    ("fsmount", &[0, 1, 2]),
    ("fsopen", &[1]),
    ("fspick", &[0, 2]),
    ("fstat", &[0]),
    ("fstatfs", &[0]),
    ("fsync", &[0]),
    ("ftruncate", &[0]),
    ("futex", &[1, 2, 5]),
    ("futex_requeue", &[1, 2, 3]),
    ("futex_wait", &[3, 5]),
    ("futex_waitv", &[1, 2, 4]),
    ("futex_wake", &[2, 3]),
    ("futimesat", &[0]),
    ("get_robust_list", &[0]),
    ("getdents", &[0, 2]),
    ("getdents64", &[0, 2]),
    ("getgroups", &[0]),
    ("getitimer", &[0]),
    ("getpeername", &[0]),
    ("getpgid", &[0]),
    ("getpriority", &[0, 1]),
    ("getrandom", &[2]),
    ("getrlimit", &[0]),
    ("getrusage", &[0]),
    ("getsid", &[0]),
    ("getsockname", &[0]),
    ("getsockopt", &[0, 1, 2]),
    ("getxattrat", &[0, 2]),
    ("inotify_add_watch", &[0, 2]),
    ("inotify_init1", &[0]),
    ("inotify_rm_watch", &[0, 1]),
    ("io_setup", &[0]),
    ("io_uring_enter", &[0, 1, 2, 3]),
    ("io_uring_register", &[0, 1, 3]),
    ("io_uring_setup", &[0]),
    ("ioctl", &[0, 1]),
    ("ioperm", &[2]),
    ("iopl", &[0]),
    ("ioprio_get", &[0, 1]),
    ("ioprio_set", &[0, 1, 2]),
    ("kcmp", &[0, 1, 2]),
    ("kexec_file_load", &[0, 1]),
    ("keyctl", &[0]),
    ("kill", &[0, 1]),
    ("landlock_add_rule", &[0, 1, 3]),
    ("landlock_create_ruleset", &[2]),
    ("landlock_restrict_self", &[0, 1]),
    ("lchown", &[1, 2]),
    ("linkat", &[0, 2, 4]),
    ("listen", &[0, 1]),
    ("listmount", &[3]),
    ("listxattrat", &[0, 2]),
    ("lseek", &[0, 2]),
    ("lsetxattr", &[4]),
    ("lsm_get_self_attr", &[0, 3]),
    ("lsm_list_modules", &[2]),
    ("lsm_set_self_attr", &[0, 2, 3]),
    ("madvise", &[2]),
    ("map_shadow_stack", &[2]),
    ("mbind", &[2, 5]),
    ("membarrier", &[0, 1, 2]),
    ("memfd_create", &[1]),
    ("memfd_secret", &[0]),
    ("migrate_pages", &[0]),
    ("mkdirat", &[0]),
    ("mknod", &[2]),
    ("mknodat", &[0, 3]),
    ("mlock2", &[2]),
    ("mlockall", &[0]),
    ("mmap", &[4]),
    ("modify_ldt", &[0]),
    ("mount_setattr", &[0, 2]),
    ("move_mount", &[0, 2, 4]),
    ("move_pages", &[0, 5]),
    ("mq_getsetattr", &[0]),
    ("mq_notify", &[0]),
    ("mq_open", &[1]),
    ("mq_timedreceive", &[0]),
    ("mq_timedsend", &[0, 3]),
    ("msgctl", &[0, 1]),
    ("msgget", &[0, 1]),
    ("msgrcv", &[0, 4]),
    ("msgsnd", &[0, 3]),
    ("msync", &[2]),
    ("name_to_handle_at", &[0, 4]),
    ("newfstatat", &[0, 3]),
    ("open", &[1]),
    ("open_by_handle_at", &[0, 2]),
    ("open_tree", &[0, 2]),
    ("open_tree_attr", &[0, 2]),
    ("openat", &[0, 2]),
    ("openat2", &[0]),
    ("perf_event_open", &[1, 2, 3]),
    ("personality", &[0]),
    ("pidfd_getfd", &[0, 1, 2]),
    ("pidfd_open", &[0, 1]),
    ("pidfd_send_signal", &[0, 1, 3]),
    ("pipe2", &[1]),
    ("pkey_free", &[0]),
    ("pkey_mprotect", &[3]),
    ("poll", &[1, 2]),
    ("ppoll", &[1]),
    ("prctl", &[0]),
    ("pread64", &[0]),
    ("preadv", &[0]),
    ("preadv2", &[0, 5]),
    ("prlimit64", &[0, 1]),
    ("process_madvise", &[0, 3, 4]),
    ("process_mrelease", &[0, 1]),
    ("process_vm_readv", &[0]),
    ("process_vm_writev", &[0]),
    ("pselect6", &[0]),
    ("ptrace", &[1]),
    ("pwrite64", &[0]),
    ("pwritev", &[0]),
    ("pwritev2", &[0, 5]),
    ("quotactl", &[0, 2]),
    ("quotactl_fd", &[0, 1, 2]),
    ("read", &[0]),
    ("readahead", &[0]),
    ("readlink", &[2]),
    ("readlinkat", &[0, 3]),
    ("readv", &[0]),
    ("reboot", &[0, 1, 2]),
    ("recvfrom", &[0, 3]),
    ("recvmmsg", &[0, 2, 3]),
    ("recvmsg", &[0, 2]),
    ("removexattrat", &[0, 2]),
    ("renameat", &[0, 2]),
    ("renameat2", &[0, 2, 4]),
    ("request_key", &[3]),
    ("rseq", &[1, 2, 3]),
    ("rt_sigaction", &[0]),
    ("rt_sigprocmask", &[0]),
    ("rt_sigqueueinfo", &[0, 1]),
    ("rt_tgsigqueueinfo", &[0, 1, 2]),
    ("sched_get_priority_max", &[0]),
    ("sched_get_priority_min", &[0]),
    ("sched_getaffinity", &[0, 1]),
    ("sched_getattr", &[0, 2, 3]),
    ("sched_getparam", &[0]),
    ("sched_getscheduler", &[0]),
    ("sched_rr_get_interval", &[0]),
    ("sched_setaffinity", &[0, 1]),
    ("sched_setattr", &[0, 2]),
    ("sched_setparam", &[0]),
    ("sched_setscheduler", &[0, 1]),
    ("seccomp", &[0, 1]),
    ("select", &[0]),
    ("semctl", &[0, 1, 2]),
    ("semget", &[0, 1, 2]),
    ("semop", &[0, 2]),
    ("semtimedop", &[0, 2]),
    ("sendfile", &[0, 1]),
    ("sendmmsg", &[0, 2, 3]),
    ("sendmsg", &[0, 2]),
    ("sendto", &[0, 3, 5]),
    ("set_mempolicy", &[0]),
    ("setdomainname", &[1]),
    ("setfsgid", &[0]),
    ("setfsuid", &[0]),
    ("setgid", &[0]),
    ("setgroups", &[0]),
    ("sethostname", &[1]),
    ("setitimer", &[0]),
    ("setns", &[0, 1]),
    ("setpgid", &[0, 1]),
    ("setpriority", &[0, 1, 2]),
    ("setregid", &[0, 1]),
    ("setresgid", &[0, 1, 2]),
    ("setresuid", &[0, 1, 2]),
    ("setreuid", &[0, 1]),
    ("setrlimit", &[0]),
    ("setsockopt", &[0, 1, 2, 4]),
    ("setuid", &[0]),
    ("setxattr", &[4]),
    ("setxattrat", &[0, 2]),
    ("shmat", &[0, 2]),
    ("shmctl", &[0, 1]),
    ("shmget", &[0, 2]),
    ("shutdown", &[0, 1]),
    ("signalfd", &[0]),
    ("signalfd4", &[0, 3]),
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
    ("splice", &[0, 2, 5]),
    ("statmount", &[3]),
    ("statx", &[0, 2, 3]),
    ("swapon", &[1]),
    ("symlinkat", &[1]),
    ("sync_file_range", &[0, 3]),
    ("sync_file_range2", &[0, 1]),
    ("syncfs", &[0]),
    ("sysfs", &[0]),
    ("syslog", &[0, 2]),
    ("tee", &[0, 1, 3]),
    ("tgkill", &[0, 1, 2]),
    ("timer_create", &[0]),
    ("timer_delete", &[0]),
    ("timer_getoverrun", &[0]),
    ("timer_gettime", &[0]),
    ("timer_settime", &[0, 1]),
    ("timerfd_create", &[0, 1]),
    ("timerfd_gettime", &[0]),
    ("timerfd_settime", &[0, 1]),
    ("tkill", &[0, 1]),
    ("umask", &[0]),
    ("umount2", &[1]),
    ("unlinkat", &[0, 2]),
    ("userfaultfd", &[0]),
    ("ustat", &[0]),
    ("utimensat", &[0, 3]),
    ("vmsplice", &[0, 3]),
    ("wait4", &[0, 2]),
    ("waitid", &[0, 1, 3]),
    ("write", &[0]),
    ("writev", &[0]),
];

/// Arguments of type `umode_t`. Sorted.
const BITS_16: &[(&str, &[u8])] = &[
    ("chmod", &[1]),
    ("creat", &[1]),
    ("fchmod", &[1]),
    ("fchmodat", &[2]),
    ("fchmodat2", &[2]),
    ("mkdir", &[1]),
    ("mkdirat", &[2]),
    ("mknod", &[1]),
    ("mknodat", &[2]),
    ("mq_open", &[2]),
    ("open", &[2]),
    ("openat", &[3]),
];

fn holds(table: &[(&str, &[u8])], name: &str, argument: u8) -> bool {
    let at = table.binary_search_by_key(&name, |(call, _)| call);
    at.is_ok_and(|at| table[at].1.contains(&argument))
}

/// Arguments that are user and group IDs of 16 bits where the call is the old one. Sorted. Source: `kernel/uid16.c`.
const OLD_IDS: &[(&str, &[u8])] = &[
    ("chown", &[1, 2]),
    ("fchown", &[1, 2]),
    ("lchown", &[1, 2]),
    ("setfsgid", &[0]),
    ("setfsuid", &[0]),
    ("setgid", &[0]),
    ("setregid", &[0, 1]),
    ("setresgid", &[0, 1, 2]),
    ("setresuid", &[0, 1, 2]),
    ("setreuid", &[0, 1]),
    ("setuid", &[0]),
];

/// Whether the calls of [`OLD_IDS`] are the old ones there: the kernel has others with IDs of 32 bits, such as `setuid32`.
fn has_old_ids(architecture: Architecture) -> bool {
    is_call("setuid32", architecture)
}

/// How many bits of this argument the kernel reads, if not all.
pub(in super::super) fn bits_read(name: &str, argument: u8) -> Option<u32> {
    if holds(BITS_16, name, argument) {
        Some(16)
    } else if holds(BITS_32, name, argument) {
        Some(32)
    } else {
        None
    }
}

/// The architecture of these on which the kernel reads 16 bits of this argument, and more on others.
pub(in super::super) fn cut_to_16_bits(
    name: &str,
    argument: u8,
    architectures: &[Architecture],
) -> Option<Architecture> {
    let mut old = architectures.iter().filter(|one| has_old_ids(**one));
    old.find(|_| holds(OLD_IDS, name, argument)).copied()
}

#[cfg(test)]
mod tests {
    use super::super::is_pointer;
    use super::*;
    use crate::profile::syscalls;

    #[test]
    fn the_tables_are_sorted_and_name_system_calls_and_arguments_that_exist() {
        for table in [BITS_32, BITS_16, OLD_IDS] {
            assert!(table.is_sorted_by(|(one, _), (other, _)| one < other));
            for (name, arguments) in table {
                assert!(syscalls::lookup(name).is_some(), "{name}");
                let ascend = arguments.is_sorted_by(|one, other| one < other);
                assert!(ascend && arguments.iter().all(|argument| *argument < 6), "{name}");
            }
        }
    }

    #[test]
    fn an_argument_has_one_width_and_is_no_address() {
        for (name, arguments) in BITS_32.iter().chain(BITS_16) {
            for argument in *arguments {
                assert!(!is_pointer(name, *argument), "{name}");
                let in_both = holds(BITS_16, name, *argument) && holds(BITS_32, name, *argument);
                assert!(!in_both, "{name}");
            }
        }
    }

    #[test]
    fn ids_have_16_bits_where_the_kernel_has_other_calls_for_those_of_32() {
        use Architecture::{Aarch64, Arm, M68k, Mips, Ppc, S390, S390X, Sh, X32, X86, X86_64};
        for architecture in [X86, Arm, S390, M68k, Sh] {
            let cut = |name, argument| cut_to_16_bits(name, argument, &[X86_64, architecture]);
            assert_eq!(cut("setuid", 0), Some(architecture));
            assert_eq!(cut("lchown", 2), Some(architecture));
            assert_eq!(cut("lchown", 0), None);
            assert_eq!(cut("setuid32", 0), None);
            assert_eq!(cut("fchownat", 2), None);
        }
        assert_eq!(
            cut_to_16_bits("setuid", 0, &[X86_64, X32, Aarch64, Mips, Ppc, S390X]),
            None
        );
        for (name, arguments) in OLD_IDS {
            let wide = arguments.iter().all(|one| holds(BITS_32, name, *one));
            assert!(wide, "{name}");
        }
    }

    #[test]
    fn what_the_kernel_cuts_is_known_by_its_width() {
        for (name, argument, bits) in [
            ("setuid", 0, Some(32)),
            ("setresgid", 2, Some(32)),
            ("fchownat", 3, Some(32)),
            ("umount2", 1, Some(32)),
            ("shmget", 2, Some(32)),
            ("shmget", 1, None),
            ("prlimit64", 1, Some(32)),
            ("tgkill", 2, Some(32)),
            ("fchmod", 0, Some(32)),
            ("fchmod", 1, Some(16)),
            ("openat", 3, Some(16)),
            ("unshare", 0, None),
            ("mount", 3, None),
            ("brk", 0, None),
        ] {
            assert_eq!(bits_read(name, argument), bits, "{name} {argument}");
        }
    }
}

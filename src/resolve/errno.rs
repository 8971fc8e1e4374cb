//! Errnos by name, which Podman and CRI-O read.

/// The number that this text is for, `None` where Podman and CRI-O know none: a name of theirs, or a number in decimal
/// digits of at most 32 bits.
///
/// Source: `getErrno` of containers/common v0.50.1 in `pkg/seccomp/seccomp_linux.go`.
pub(super) fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        return text.parse().ok();
    }
    let (_, number) = NAMED.iter().find(|(name, _)| *name == text)?;
    u32::try_from(*number).ok()
}

/// The names that Podman and CRI-O know.
pub(super) fn names() -> Vec<&'static str> {
    NAMED.iter().map(|(name, _)| *name).collect()
}

/// Declares the table by the names of errno(3). Their numbers are those of the architecture that this program is built for:
/// the same on all that [`super::HostArchitecture`] knows.
macro_rules! named {
    ($($name:ident,)+) => {
        const NAMED: &[(&str, i32)] = &[$((stringify!($name), libc::$name)),+];
    };
}

// Source: `errnoArch` of containers/common v0.50.1 in `pkg/seccomp/errno_list.go`.
named! {
    E2BIG, EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EALREADY, EBADF, EBADMSG, EBUSY,
    ECANCELED, ECHILD, ECONNABORTED, ECONNREFUSED, ECONNRESET, EDEADLK, EDESTADDRREQ, EDOM, EDQUOT, EEXIST,
    EFAULT, EFBIG, EHOSTDOWN, EHOSTUNREACH, EIDRM, EILSEQ, EINPROGRESS, EINVAL, EIO, EISCONN, EISDIR, ELOOP,
    EMEDIUMTYPE, EMFILE, EMLINK, EMSGSIZE, ENAMETOOLONG, ENETDOWN, ENETRESET, ENETUNREACH, ENFILE, ENOBUFS,
    ENODEV, ENOENT, ENOEXEC, ENOLCK, ENOMEDIUM, ENOMEM, ENOMSG, ENOPROTOOPT, ENOSPC, ENOSYS, ENOTBLK,
    ENOTCONN, ENOTDIR, ENOTEMPTY, ENOTRECOVERABLE, ENOTSOCK, ENOTSUP, ENOTTY, ENXIO, EOPNOTSUPP, EOVERFLOW,
    EOWNERDEAD, EPERM, EPFNOSUPPORT, EPIPE, EPROTONOSUPPORT, EPROTOTYPE, ERANGE, EREMOTE, EROFS, ESHUTDOWN,
    ESOCKTNOSUPPORT, ESPIPE, ESRCH, ESTALE, ETIMEDOUT, ETOOMANYREFS, ETXTBSY, EUSERS, EXDEV,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_digits_is_a_number() {
        for (text, expected) in [
            ("EPERM", 1),
            ("EACCES", 13),
            ("EINVAL", 22),
            ("ENOSYS", 38),
            ("ENOTSUP", 95),
            ("EOPNOTSUPP", 95),
            ("ENOTRECOVERABLE", 131),
            ("0", 0),
            ("038", 38),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        // The last three are errnos that Podman has no name for.
        for text in [
            "",
            "enosys",
            "ENOSYS ",
            "38 ",
            "-1",
            "+1",
            "0x26",
            "4294967296",
            "ENONET",
            "EINTR",
            "EHWPOISON",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}

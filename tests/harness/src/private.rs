//! Secrets and the files that hold them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::rand::{GetRandomFlags, getrandom};

/// A bearer token that nobody can guess: 256 bits from the kernel, as 64 hexadecimal digits.
pub(crate) fn token() -> Result<String> {
    let mut bytes = [0_u8; 32];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty()).context("no random bytes from the kernel")?;
    // getrandom(2) always gives up to 256 bytes whole.
    ensure!(
        filled == bytes.len(),
        "the kernel gave {filled} random bytes only"
    );
    let mut token = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(token, "{byte:02x}")?;
    }
    Ok(token)
}

/// Writes a file that only our user can read.
pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<()> {
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(contents))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_our_user_may_read_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        write(&file, b"secret").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read(&file).unwrap(), b"secret");
    }

    #[test]
    fn each_token_is_another_one_and_long() {
        let token = token().unwrap();
        assert_eq!(token.len(), 64);
        assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(token, super::token().unwrap());
    }
}

//! Which build this is.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The commit that it was built from, where whoever built it said so in `CALLGATE_REVISION`.
const REVISION: &str = match option_env!("CALLGATE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Registers `build_info`: the version, the commit, and the version of libseccomp at hand.
pub fn register_build(registry: &mut Registry, libseccomp: &str) {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", REVISION),
        ("libseccomp", libseccomp),
    ];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    registry.register(
        "build",
        "The version of the program, the commit that it was built from, and the libseccomp that it runs with",
        Info::new(labels.to_vec()),
    );
}

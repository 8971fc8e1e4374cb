//! What must hold of every object that an API server may send. See [`crate::fuzz`].

use kube::Resource as _;

use super::{RawSeccompProfile, SeccompNode};

/// A report of a node comes back from what is written of it; a profile's object is read whatever its spec holds.
pub(crate) fn objects(bytes: &[u8]) {
    if let Ok(node) = serde_json::from_slice::<SeccompNode>(bytes) {
        let written = serde_json::to_vec(&node);
        assert!(written.is_ok());
        let read = written.map(|written| serde_json::from_slice::<SeccompNode>(&written));
        assert!(matches!(&read, Ok(Ok(read)) if *read == node), "{read:?}");
    }
    if let Ok(profile) = serde_json::from_slice::<RawSeccompProfile>(bytes) {
        let _ = profile.meta();
        let _ = crate::profile::parse_spec(&profile.spec);
    }
}

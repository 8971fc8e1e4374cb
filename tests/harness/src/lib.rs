//! A local Kubernetes for tests.

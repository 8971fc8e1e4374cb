//! A local Kubernetes for Callgate's tests, benchmarks and demo: etcd and kube-apiserver as child processes, and
//! kubectl, as `tests/kubernetes/build` builds them. No container engine, no root. With [`Nodes`], which need root, there
//! are nodes that run pods.
//!
//! Without, it is an API server and nothing else. No controller manager runs, so
//!
//! - nothing is garbage-collected: owner references are stored, and have no effect;
//! - a deleted namespace stays `Terminating`;
//! - Deployments and `DaemonSet`s make no pods, and no namespace gets its `default` `ServiceAccount`:
//!   [`Cluster::namespace`] makes both;
//! - there are no nodes, no scheduler and no kubelet: [`Cluster::node`] and [`Cluster::agent_pod`] make the objects.
//!
//! Other users of the machine cannot use it: its admin's token is random, and its files, keys and etcd's sockets are in
//! a directory of our user's alone.
//!
//! Everything ends with the [`Cluster`], and with the process that holds it however that one ends: the children ask
//! the kernel to be killed with it, and a small shell removes the temporary directory.
//!
//! With `CALLGATE_TEST_KUBECONFIG=FILE` in the environment [`Cluster::provided`] is a cluster that exists: objects are
//! created in it and are not cleaned up. The user's own current context is never looked at.
//!
//! What it may know: Kubernetes, the manifests in `deploy/`, and the command line of `callgate`. Nothing of
//! the library.

mod audit;
mod callgate;
mod cluster;
mod install;
mod kubeconfig;
mod local;
mod logs;
mod memory;
mod metrics;
mod nodes;
mod objects;
mod private;
mod process;
mod scratch;
mod tools;
mod wait;

pub use self::audit::Audited;
pub use self::callgate::Program;
pub use self::cluster::{Cluster, Output};
pub use self::local::{DIRECTORY, free_port};
pub use self::memory::{Memory, children, status_bytes};
pub use self::metrics::{Counters, Request, Requests};
pub use self::nodes::{Node, Nodes, Software};
pub use self::objects::{AGENT_SERVICE_ACCOUNT, CONTROLLER_SERVICE_ACCOUNT, NAMESPACE};
pub use self::process::Process;
pub use self::scratch::{Scratch, Sweeper};
pub use self::tools::{helm, kind, promtool, repository};
pub use self::wait::{DEADLINE, eventually};

//! Callgate on whole nodes, installed by its chart: pods that run under its profiles, through what goes wrong in
//! clusters. Every test runs on each node, and the two nodes of the local cluster span what is in use: the newest
//! containerd with runc, and Debian's containerd with crun.
//!
//! With `CALLGATE_TEST_KUBECONFIG` the suite takes that cluster, with Callgate installed in it, instead of local nodes.
//! Tests that break nodes or look at their disks then say that they do not run.

mod control_plane;
mod drift;
mod faults;
mod kind;
mod lab;
mod leftovers;
mod life;
mod membership;
mod pods;
mod probe;
mod rollout;
mod starts;
mod steady;
mod usage;

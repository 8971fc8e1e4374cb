//! The node agent on a real API server, with the rights and policies of `deploy/`, a real directory, a real
//! fork server and the running kernel.

mod bed;
mod directory;
mod outages;
mod pods;
mod profiles;
mod queues;

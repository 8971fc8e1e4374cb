//! What is measured, one file per part of the report.

pub(crate) mod changes;
pub(crate) mod cold;
pub(crate) mod floor;
pub(crate) mod idle;
pub(crate) mod nodes;
pub(crate) mod outages;
pub(crate) mod pods;

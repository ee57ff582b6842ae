//! What makes an effect accountable: who acted, under which rule, with whose approval, and the chain that shows it.
//!
//! Owns the schema `governance`, which the control database and every tenant's database have, and the tables of
//! governed decisions in the schema `tenant`. Functions take the connection of a transaction: what they write commits
//! or vanishes with the effect it speaks of.
//!
//! Promises: no personal data in the chain; actors are ids, values are digests.
//!
//! Refuses: to run a job, or to know a connector.

pub mod actor;
pub mod approval;
pub mod audit;
pub mod candidate;
pub mod canonical;
pub mod checkpoint;
pub mod decision;
pub mod detector;
pub mod digest;
pub mod gate;
pub mod measure;
pub mod path;
pub mod policy;
pub mod promotion;
pub mod reading;
pub mod receipt;
pub mod review;
pub mod shadow;
pub mod wish;
pub mod writeback;

//! Why a group does not do what was asked of it.

use crate::store::{Partition, StoreError};

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    #[error("there is no group {0}")]
    Unknown(String),
    #[error("group {group} has {consumers} consumers: no more fit in")]
    Full { group: String, consumers: usize },
    /// Not of this group, damaged, or none of ours.
    #[error("the cursor is not of an event that group {group} was delivered")]
    CursorUnknown { group: String },
    /// What is acknowledged was delivered under a lease that is over.
    #[error("partition {partition} of group {group} is not this consumer's, or was given to it anew")]
    CursorNotYours { group: String, partition: Partition },
    #[error(transparent)]
    Store(#[from] StoreError),
}

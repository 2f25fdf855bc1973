use smallvec::SmallVec;

use super::truth::Truth;

/// The part of a verdict that depends on the user alone, for one application. Rules about the user
/// are evaluated once and not on every request. It is valid for the snapshot and the user facts
/// that it was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialVerdict {
    /// The policies that could still apply, by their indices among the first ones or the rest, with
    /// their settled halves.
    pub(super) policies: SmallVec<[(usize, UserPart); 2]>,
    /// The groups that requests can make a difference to, by number.
    pub(super) groups: SmallVec<[(usize, UserPart); 1]>,
}

/// The results of the rules about the user, per clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UserPart {
    pub(super) include: Truth,
    pub(super) require: Truth,
    pub(super) exclude: Truth,
}

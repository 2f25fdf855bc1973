use std::error::Error;
use std::iter::successors;

/// An error and everything behind it, each in its own words.
pub fn causes(error: &dyn Error) -> impl Iterator<Item = String> {
    successors(Some(error), |&cause| cause.source()).map(ToString::to_string)
}

/// The same on one line.
pub fn chain(error: &dyn Error) -> String {
    causes(error).collect::<Vec<_>>().join(": ")
}

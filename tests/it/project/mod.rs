//! Checks of the source, the documents and the test harness itself.

mod documents;
mod harness;
mod layers;
mod reasons;

use crate::model::Aud;

/// Derives the id of an object that is configured without one. Equal parts give an equal id.
pub(crate) fn derived_id(parts: &[&str]) -> String {
    let mut id = Aud::derive(parts).as_str().to_owned();
    // As long as the other ids of Cloudflare Access.
    id.truncate(32);
    id
}

use std::collections::HashMap;

use super::{Place, Reader};

/// Names that must be different, with the position of the first use of each.
#[derive(Debug)]
pub(in crate::config) struct Unique {
    what: &'static str,
    seen: HashMap<String, Place>,
}

impl Unique {
    /// `what` completes the message "another … `x`".
    pub(in crate::config) fn new(what: &'static str) -> Self {
        Self {
            what,
            seen: HashMap::new(),
        }
    }

    /// Returns `true` if the name is new; reports it otherwise.
    pub(in crate::config) fn claim(
        &mut self,
        reader: &Reader<'_>,
        name: &str,
        place: &Place,
    ) -> bool {
        if let Some(first) = self.seen.get(name) {
            let (what, earlier) = (self.what, reader.reference(first, place));
            reader.error(
                place,
                &format!("another {what} `{name}`, {earlier}; each needs its own"),
            );
            return false;
        }
        self.seen.insert(name.to_owned(), place.clone());
        true
    }
}

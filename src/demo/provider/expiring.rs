use std::collections::VecDeque;
use std::time::Duration;

use super::{Secret, UnixTime, random};

/// Values that expire, each under a random name.
#[derive(Debug)]
pub(super) struct Expiring<T> {
    life: Duration,
    /// Oldest first: all have the same lifetime.
    entries: VecDeque<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    name: Secret,
    until: UnixTime,
    value: T,
}

impl<T> Expiring<T> {
    pub(super) const fn new(life: Duration) -> Self {
        Self {
            life,
            entries: VecDeque::new(),
        }
    }

    /// Stores the value and returns its name. Evicts the oldest value if there are too many.
    pub(super) fn insert(&mut self, value: T, now: UnixTime) -> String {
        while self.entries.len() >= MOST
            || self
                .entries
                .front()
                .is_some_and(|oldest| oldest.until <= now)
        {
            self.entries.pop_front();
        }
        let name = random();
        self.entries.push_back(Entry {
            name: Secret::new(name.as_str()),
            until: now.after(self.life),
            value,
        });
        name
    }

    /// Returns the value of this name unless it has expired.
    pub(super) fn get(&self, name: &str, now: UnixTime) -> Option<&T> {
        let name = Secret::new(name);
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        (now < entry.until).then_some(&entry.value)
    }

    /// Removes the value of this name, and returns it unless it has expired.
    pub(super) fn take(&mut self, name: &str, now: UnixTime) -> Option<T> {
        let name = Secret::new(name);
        let index = self.entries.iter().position(|entry| entry.name == name)?;
        let entry = self.entries.remove(index)?;
        (now < entry.until).then_some(entry.value)
    }
}

/// More than a demo needs at once.
const MOST: usize = 256;

use std::collections::VecDeque;
use std::time::Duration;

use super::{Secret, UnixTime, random};

/// Things that live a while, each under a random name.
#[derive(Debug)]
pub(super) struct Live<T> {
    life: Duration,
    /// The oldest first, for all live equally long.
    entries: VecDeque<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    name: Secret,
    until: UnixTime,
    value: T,
}

impl<T> Live<T> {
    pub(super) const fn new(life: Duration) -> Self {
        Self {
            life,
            entries: VecDeque::new(),
        }
    }

    /// Keeps the value and names it. Where there are too many, the oldest goes.
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

    /// What has this name and still lives.
    pub(super) fn get(&self, name: &str, now: UnixTime) -> Option<&T> {
        let name = Secret::new(name);
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        (now < entry.until).then_some(&entry.value)
    }

    /// The same, and it is gone.
    pub(super) fn take(&mut self, name: &str, now: UnixTime) -> Option<T> {
        let name = Secret::new(name);
        let place = self.entries.iter().position(|entry| entry.name == name)?;
        let entry = self.entries.remove(place)?;
        (now < entry.until).then_some(entry.value)
    }
}

/// More than a demo has at once.
const MOST: usize = 256;

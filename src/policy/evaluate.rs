use std::net::IpAddr;

use smallvec::SmallVec;

use crate::model::Reason;

/// Three-valued truth (Kleene): what is not known is neither true nor false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Known to hold.
    True,
    /// Known not to hold.
    False,
    /// Could not be learned.
    Unknown,
}

impl Truth {
    pub(super) const fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }

    pub(super) fn any(truths: impl Iterator<Item = Self>) -> Self {
        let mut unknown = false;
        for truth in truths {
            match truth {
                Self::True => return Self::True,
                Self::Unknown => unknown = true,
                Self::False => {}
            }
        }
        if unknown { Self::Unknown } else { Self::False }
    }

    pub(super) fn all(truths: impl Iterator<Item = Self>) -> Self {
        Self::any(truths.map(Self::not)).not()
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Groups as a set of interned names: one bit for each group that any rule of the snapshot mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership(Bits);

impl Membership {
    pub(super) fn new(bits: usize) -> Self {
        Self(Bits::new(bits))
    }

    pub(super) fn insert(&mut self, bit: u32) {
        self.0.insert(bit as usize);
    }

    pub(super) fn contains(&self, bit: u32) -> bool {
        self.0.contains(bit as usize)
    }
}

/// The policies of one application that could apply to one person, by their places.
///
/// The others are false of the person wherever a request comes from, so no request has to ask them again. Good for as long
/// as the person's facts and the snapshot are the ones that it was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shortlist(pub(super) Bits);

/// A set of small numbers. Sets of up to 128 need no heap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(SmallVec<[u64; 2]>);

impl Bits {
    pub(super) fn new(bits: usize) -> Self {
        Self(SmallVec::from_elem(0, bits.div_ceil(64)))
    }

    pub(super) fn insert(&mut self, bit: usize) {
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    fn contains(&self, bit: usize) -> bool {
        self.0.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// In ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(place, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(place * 64 + bit)
            })
        })
    }
}

/// What is known about a request. What is `None` is unknown, which is not the same as false or empty.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The canonical address.
    pub email: Option<&'a str>,
    /// Which provider the person came through, as an interned number.
    pub idp: Option<u32>,
    /// The groups.
    pub groups: Option<&'a Membership>,
    /// Where the request came from; canonical, so an IPv4-mapped address is IPv4.
    pub ip: IpAddr,
}

impl Facts<'_> {
    /// A request about whose sender nothing is known.
    pub const fn of_nobody(ip: IpAddr) -> Facts<'static> {
        Facts { email: None, idp: None, groups: None, ip }
    }
}

impl Reason {
    /// Why a verdict that denies does so.
    pub const fn of_denial(verdict: &Verdict) -> Self {
        match verdict {
            Verdict { unknown: true, .. } => Self::IdentityIncomplete,
            Verdict { policy: Some(_), .. } => Self::PolicyDenied,
            Verdict { policy: None, .. } => Self::NoPolicyApplied,
        }
    }
}

/// What the policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Forward, with identity.
    Allow,
    /// Forward, without any.
    Bypass,
    /// Refuse.
    Deny,
}

/// What the policies say, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub outcome: Outcome,
    /// The policy that decided, by its place in the application's list; none where nothing applied.
    pub policy: Option<usize>,
    /// Whether something unknown stood in the way of another outcome. Such a refusal is no judgement of the person.
    pub unknown: bool,
}

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A set of addresses: ranges that neither touch nor overlap, in order, so that a look-up is a
/// binary search.
#[derive(Debug, Default)]
pub(super) struct Nets {
    v4: Box<[Ipv4Net]>,
    v6: Box<[Ipv6Net]>,
}

impl Nets {
    pub(super) fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push(net),
                IpNet::V6(net) => v6.push(net),
            }
        }
        let (mut v4, mut v6) = (Ipv4Net::aggregate(&v4), Ipv6Net::aggregate(&v6));
        v4.sort_unstable_by_key(Ipv4Net::network);
        v6.sort_unstable_by_key(Ipv6Net::network);
        Self {
            v4: v4.into(),
            v6: v6.into(),
        }
    }

    /// The last net that begins at or before the address is the only one that can hold it.
    pub(super) fn contain(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                let after = self.v4.partition_point(|net| net.network() <= ip);
                after
                    .checked_sub(1)
                    .and_then(|at| self.v4.get(at))
                    .is_some_and(|net| net.contains(&ip))
            }
            IpAddr::V6(ip) => {
                let after = self.v6.partition_point(|net| net.network() <= ip);
                after
                    .checked_sub(1)
                    .and_then(|at| self.v6.get(at))
                    .is_some_and(|net| net.contains(&ip))
            }
        }
    }
}

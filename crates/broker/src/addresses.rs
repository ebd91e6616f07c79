//! How many connections each address has at once: `max.connections.per.ip` and its overrides.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The most connections of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressLimits {
    pub each: usize,
    /// Those that may have another number.
    pub overrides: BTreeMap<IpAddr, usize>,
}

#[derive(Debug, Default)]
pub struct Addresses {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place, given back when it is dropped; `None` where there is no limit.
#[derive(Debug)]
pub struct Place(Option<(Arc<Addresses>, IpAddr)>);

impl Default for AddressLimits {
    fn default() -> Self {
        Self { each: i32::MAX as usize, overrides: BTreeMap::new() }
    }
}

impl AddressLimits {
    fn of(&self, ip: IpAddr) -> usize {
        self.overrides.get(&ip).copied().unwrap_or(self.each)
    }

    /// As Kafka writes them: `ADDRESS:NUMBER` with commas between several.
    pub fn shown(&self) -> String {
        let one = |(ip, most): (&IpAddr, &usize)| format!("{ip}:{most}");
        self.overrides.iter().map(one).collect::<Vec<_>>().join(",")
    }

    pub fn set_overrides(&mut self, text: &str) -> Result<(), String> {
        let one = |part: &str| {
            let (ip, most) = part.rsplit_once(':')?;
            let ip: IpAddr = ip.trim().trim_matches(['[', ']']).parse().ok()?;
            Some((ip.to_canonical(), most.trim().parse().ok()?))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let legal = "ADDRESS:NUMBER with commas between several, for example 127.0.0.1:200,10.0.0.7:5";
        self.overrides = parts.map(one).collect::<Option<_>>().ok_or(legal)?;
        Ok(())
    }
}

impl Addresses {
    /// A place for one more connection; the error is the limit.
    pub fn admit(self: &Arc<Self>, limits: &AddressLimits, ip: IpAddr) -> Result<Place, usize> {
        let ip = ip.to_canonical();
        let most = limits.of(ip);
        if *limits == AddressLimits::default() {
            return Ok(Place(None));
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(ip).or_default();
        if *count >= most {
            if *count == 0 {
                open.remove(&ip);
            }
            return Err(most);
        }
        *count += 1;
        Ok(Place(Some((Arc::clone(self), ip))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((addresses, ip)) = &self.0 else { return };
        let mut open = addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_limit_and_places_come_back() {
        let mut limits = AddressLimits { each: 2, ..AddressLimits::default() };
        limits.set_overrides("10.0.0.7:0, [::1]:1").unwrap();
        assert_eq!(limits.shown(), "10.0.0.7:0,::1:1");
        let addresses = Arc::new(Addresses::default());
        let admit = |ip: &str| addresses.admit(&limits, ip.parse().unwrap());
        let first = admit("10.0.0.1").unwrap();
        // The same address, as a socket of both families sees it.
        let _second = admit("::ffff:10.0.0.1").unwrap();
        assert_eq!(admit("10.0.0.1").unwrap_err(), 2);
        drop(first);
        let _third = admit("10.0.0.1").unwrap();
        assert_eq!(admit("10.0.0.7").unwrap_err(), 0);
        let _loopback = admit("::1").unwrap();
        assert_eq!(admit("::1").unwrap_err(), 1);
        assert_eq!(addresses.open.lock().unwrap().len(), 2, "nobody is remembered without a connection");
        assert!(limits.set_overrides("host:3").is_err() && limits.set_overrides("10.0.0.1").is_err());
    }
}

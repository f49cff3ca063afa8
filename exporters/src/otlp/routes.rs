//! [`Routes`]: which address gets what.
//!
//! With `balance = "series"` every address that the names of the endpoints resolve to is a lane, and a group of series
//! (its resource and the labels of its target; so a source stays whole) goes to the lane that ranks highest for it by
//! rendezvous hashing: <https://en.wikipedia.org/wiki/Rendezvous_hashing>. Agents that resolve the same addresses agree
//! without speaking to each other, and when an address comes or goes, only its own share moves. A lane that fails is
//! left out for a while, and its groups go to their second choice.
//!
//! Otherwise there is one lane for each endpoint, and everything goes to the first that works.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use pipeline_component::ExportError;
use pipeline_model::{Group, Shape};
use tokio::time::{Instant, timeout};

use super::config::Balance;
use super::lane::Lane;
use super::plan::Plan;

/// How long a lane that failed is left out. A backend restarts within it; its series then come back.
const OUT_FOR: Duration = Duration::from_secs(30);

/// Shapes whose keys are remembered; beyond them all are worked out again.
const SHAPES_MAX: usize = 16 << 10;

/// All lanes.
pub(super) struct Routes {
    plan: Arc<Plan>,
    pub(super) lanes: Vec<Route>,
    /// When the names were last resolved.
    resolved: Option<Instant>,
    /// Keys of the groups of shapes, by the id of the shape.
    keys: HashMap<u64, Arc<[u64]>>,
}

/// Where a lane goes.
#[derive(Clone, Debug)]
struct Place {
    /// What it is known by: the same in every process.
    name: String,
    url: String,
    /// One of those that the name resolves to; `None`: any.
    address: Option<SocketAddr>,
}

/// A lane among others.
pub(super) struct Route {
    pub(super) lane: Lane,
    place: Place,
    hash: u64,
    out_until: Option<Instant>,
}

impl Routes {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), lanes: Vec::new(), resolved: None, keys: HashMap::default() }
    }

    /// Makes the lanes, or brings them up to date where names are resolved.
    pub(super) async fn refresh(&mut self) -> Result<(), ExportError> {
        let due = self.resolved.is_none_or(|last| last.elapsed() >= self.plan.resolve_interval);
        match self.plan.balance {
            Balance::Failover if self.lanes.is_empty() => {
                let urls = self.plan.urls.iter();
                let place =
                    |url: &String| Place { name: url.clone(), url: url.clone(), address: None };
                self.replace(urls.map(place).collect())
            }
            Balance::Series if due || self.lanes.is_empty() => {
                let places = self.resolve().await?;
                self.resolved = Some(Instant::now());
                self.replace(places)
            }
            Balance::Failover | Balance::Series => Ok(()),
        }
    }

    /// Every address of every endpoint. Of a name that does not resolve those that it had: better than nothing.
    async fn resolve(&self) -> Result<Vec<Place>, ExportError> {
        let mut found = Vec::new();
        let mut failed = None;
        for url in &self.plan.urls {
            let (host, port) = host_of(url);
            let looked = timeout(self.plan.timeout, tokio::net::lookup_host((host.as_str(), port)));
            let reason = match looked.await {
                Ok(Ok(addresses)) => {
                    found.extend(addresses.map(|address| Place {
                        name: address.to_string(),
                        url: url.clone(),
                        address: Some(address),
                    }));
                    continue;
                }
                Ok(Err(error)) => format!("cannot resolve {host}: {error}"),
                Err(_) => format!("expected an address for host {host} in time"),
            };
            let before = self.lanes.iter().map(|lane| &lane.place);
            found.extend(before.filter(|place| place.url == *url).cloned());
            failed = Some(reason);
        }
        match failed {
            Some(reason) if found.is_empty() => Err(ExportError::Retryable { reason, after: None }),
            _ => Ok(found),
        }
    }

    /// Keeps the lanes that are still there, with their connections.
    fn replace(&mut self, places: Vec<Place>) -> Result<(), ExportError> {
        let mut before = std::mem::take(&mut self.lanes);
        for place in places {
            if self.lanes.iter().any(|lane| lane.place.name == place.name) {
                continue;
            }
            let known = before.iter().position(|lane| lane.place.name == place.name);
            let route = match known {
                Some(at) => before.swap_remove(at),
                None => Route {
                    // Checked when the configuration was.
                    lane: Lane::new(&self.plan, &place.url, place.address)
                        .map_err(|error| ExportError::Permanent(error.to_string()))?,
                    hash: hash(place.name.as_bytes(), 0),
                    place,
                    out_until: None,
                },
            };
            self.lanes.push(route);
        }
        Ok(())
    }

    /// Leaves a lane out for a while, and has names resolved before the next request.
    pub(super) fn failed(&mut self, lane: usize) {
        self.resolved = None;
        if let Some(route) = self.lanes.get_mut(lane) {
            route.out_until = Some(Instant::now() + OUT_FOR);
        }
    }

    /// True while some lane is not left out.
    pub(super) fn any_in(&self) -> bool {
        let now = Instant::now();
        self.lanes.iter().any(|route| route.is_in(now))
    }

    /// Lets all lanes in again: all of them failed, so any may be the first to be back.
    pub(super) fn let_in(&mut self) {
        self.lanes.iter_mut().for_each(|route| route.out_until = None);
    }

    /// The lane of each group of a shape.
    pub(super) fn owners(&mut self, shape: &Shape) -> Vec<usize> {
        let now = Instant::now();
        let all_out = !self.lanes.iter().any(|route| route.is_in(now));
        let choices = |route: &&Route| all_out || route.is_in(now);
        if self.plan.balance == Balance::Failover {
            let first = self.lanes.iter().position(|route| choices(&route)).unwrap_or(0);
            return vec![first; shape.groups().len()];
        }
        if self.keys.len() >= SHAPES_MAX {
            self.keys.clear();
        }
        let keys =
            self.keys.entry(shape.id()).or_insert_with(|| shape.groups().iter().map(key).collect());
        let owner = |key: &u64| {
            let lanes = self.lanes.iter().enumerate().filter(|(_, route)| choices(route));
            lanes.max_by_key(|(_, route)| mix(route.hash ^ key)).map_or(0, |(lane, _)| lane)
        };
        keys.iter().map(owner).collect()
    }
}

impl Route {
    fn is_in(&self, now: Instant) -> bool {
        self.out_until.is_none_or(|until| until <= now)
    }
}

/// Host and port of an address that the client has accepted.
fn host_of(url: &str) -> (String, u16) {
    let uri: http::Uri = url.parse().unwrap_or_default();
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (host.to_owned(), uri.port_u16().unwrap_or(usual))
}

/// What a group is known by, the same in every process: its resource and its labels, not its scope.
fn key(group: &Group) -> u64 {
    let labels = group.resource.attributes.iter().chain(&group.labels);
    labels.fold(0, |so_far, label| {
        let name = hash(label.name.as_bytes(), so_far);
        hash(label.value.to_string().as_bytes(), hash(&[0xff], name))
    })
}

/// FNV-1a, continued from `from`: stable for ever, and good enough before [`mix`].
fn hash(bytes: &[u8], from: u64) -> u64 {
    bytes.iter().fold(from ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// splitmix64's finaliser.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pipeline_model::{Labels, Scope};

    use super::*;

    fn group(instance: &str, scope: &str) -> Group {
        let labels = Labels::from_pairs([("instance", instance), ("job", "vllm")]);
        let scope = Arc::new(Scope { name: scope.into(), ..Scope::default() });
        Group { labels, scope, ..Group::default() }
    }

    /// These numbers are the agreement between agents of different versions: they must never change.
    #[test]
    fn keys_are_for_ever() {
        assert_eq!(key(&group("a", "x")), key(&group("a", "y")));
        assert_eq!(key(&group("a", "")), 15_756_238_074_288_869_382);
        assert_eq!(mix(hash(b"10.0.0.1:4317", 0)), 11_593_969_950_730_315_586);
    }

    #[test]
    fn hosts() {
        assert_eq!(host_of("http://gw:4317"), ("gw".to_owned(), 4317));
        assert_eq!(host_of("https://[::1]/v1/metrics"), ("::1".to_owned(), 443));
        assert_eq!(host_of("http://gw/x"), ("gw".to_owned(), 80));
    }

    fn places(addresses: &[&str]) -> Vec<Place> {
        let place = |address: &&str| Place {
            name: (*address).to_owned(),
            url: "http://gateways:4317".to_owned(),
            address: Some(address.parse().unwrap()),
        };
        addresses.iter().map(place).collect()
    }

    /// When the name resolves to other addresses, only what was on the one that went is elsewhere.
    #[test]
    fn addresses_come_and_go() {
        let toml = "endpoints = [\"http://gateways:4317\"]\nbalance = \"series\"";
        let section = pipeline_config::Section::from_toml("exporters.otlp", toml).unwrap();
        let config: super::super::Config = section.decode().unwrap();
        let mut routes = Routes::new(&Arc::new(config.plan(&section).unwrap()));
        let interner = pipeline_model::Interner::new();
        let mut builder = pipeline_model::ShapeBuilder::new(&interner);
        for n in 0..300 {
            builder.group(group(&format!("h{n}"), ""));
        }
        let shape = builder.finish();
        let mut owners = |addresses: &[&str]| -> Vec<String> {
            routes.replace(places(addresses)).unwrap();
            let owners = routes.owners(&shape);
            owners.iter().map(|lane| routes.lanes[*lane].place.name.clone()).collect()
        };
        let all = ["10.0.0.1:4317", "10.0.0.2:4317", "10.0.0.3:4317"];
        let before = owners(&all);
        for address in all {
            let share = before.iter().filter(|owner| *owner == address).count();
            assert!((70..=130).contains(&share), "{address}: {share}");
        }
        let after = owners(&[all[2], all[0]]);
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || before == all[1], "{before} to {after}");
        }
        assert_eq!(owners(&[all[1], all[2], all[0], all[1]]), before, "in any order");
    }
}

//! Slow-changing facts about pods, targets, deployments and GPUs, beside the pipeline, with a generation number.
//!
//! Writers (discovery, the Kubernetes receiver, static config) put labels on entities; reshape steps read a
//! snapshot. The generation changes only when something a label can depend on has changed, because every plan
//! made with an older generation is made again.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use crate::{Labels, Str};

/// What metadata can be attached to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// A pod by its uid: the join that recycled addresses cannot fool.
    PodUid(Str),
    /// A pod by namespace and name.
    Pod {
        /// Namespace.
        namespace: Str,
        /// Name.
        name: Str,
    },
    /// A pod by its address.
    PodIp(Str),
    /// A scrape target's `host:port`.
    Address(Str),
    /// A GPU by its UUID.
    Gpu(Str),
    /// A deployment by the contract's `deployment_id`.
    Deployment(Str),
}

/// One consistent state of all metadata.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    generation: u64,
    entities: HashMap<Entity, Labels>,
}

impl Metadata {
    /// Rises with every change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The labels of `entity`.
    pub fn get(&self, entity: &Entity) -> Option<&Labels> {
        self.entities.get(entity)
    }

    /// Sets the labels of `entity`; true when that changed anything.
    pub fn set(&mut self, entity: Entity, labels: Labels) -> bool {
        let changed = self.entities.get(&entity) != Some(&labels);
        if changed {
            self.entities.insert(entity, labels);
        }
        changed
    }

    /// Forgets `entity`; true when it was known.
    pub fn remove(&mut self, entity: &Entity) -> bool {
        self.entities.remove(entity).is_some()
    }

    /// How many entities are known.
    pub fn len(&self) -> usize {
        self.entities.len()
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }
}

/// The shared store. Reading is one atomic load; writing copies the map, which is right for facts that change in
/// seconds and are read per batch.
#[derive(Debug, Default)]
pub struct MetadataStore {
    current: ArcSwap<Metadata>,
}

impl MetadataStore {
    /// An empty store at generation 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The current state.
    pub fn snapshot(&self) -> Arc<Metadata> {
        self.current.load_full()
    }

    /// The current generation, without taking a snapshot.
    pub fn generation(&self) -> u64 {
        self.current.load().generation
    }

    /// Applies `change`, which returns true if it changed anything; the generation rises only then. `change` may
    /// run again when another writer was faster.
    pub fn update(&self, change: impl Fn(&mut Metadata) -> bool) {
        self.current.rcu(|current| {
            let mut next = Metadata::clone(current);
            if !change(&mut next) {
                return Arc::clone(current);
            }
            next.generation += 1;
            Arc::new(next)
        });
    }
}

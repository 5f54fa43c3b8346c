//! The memory of objects: one revision counter, a ring of events for watches, and a signal when something changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::time::Time;

/// Events that a watch may still start from; older ones are gone (410).
const HISTORY: usize = 4096;

/// Where an object lives. Ordered as lists are: by namespace, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// `pods`, `deployments.apps`.
    pub(crate) resource: String,
    /// Empty for cluster-wide resources.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One change. `before` tells watches with selectors whether the object has just left their view.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Value>,
    pub(crate) now: Option<Value>,
}

/// Why a write did not happen.
#[derive(Debug)]
pub(crate) enum Refused {
    Exists,
    Missing,
    Stale,
}

pub(crate) struct Store {
    time: Time,
    memory: Mutex<Memory>,
    changed: watch::Sender<u64>,
}

struct Memory {
    revision: u64,
    /// The revision before the oldest event that is still remembered.
    compacted: u64,
    objects: BTreeMap<Key, Value>,
    history: VecDeque<Event>,
}

impl Store {
    pub(crate) fn new(time: Time) -> Self {
        let memory = Memory { revision: 1, compacted: 0, objects: BTreeMap::new(), history: VecDeque::new() };
        Self { time, memory: Mutex::new(memory), changed: watch::Sender::new(1) }
    }

    /// The latest revision, and a notice of every later one.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Value> {
        self.lock().objects.get(key).cloned()
    }

    /// Every object of a resource, in one namespace or in all, with the revision of this view.
    pub(crate) fn list(&self, resource: &str, namespace: &str) -> (u64, Vec<(Key, Value)>) {
        let memory = self.lock();
        let start =
            Key { resource: resource.to_owned(), namespace: namespace.to_owned(), name: String::new() };
        let found = memory
            .objects
            .range(start..)
            .take_while(|(key, _)| key.resource == resource)
            .filter(|(key, _)| namespace.is_empty() || key.namespace == namespace)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        (memory.revision, found)
    }

    /// Events after `revision`, or the oldest revision that one may still ask from.
    pub(crate) fn events_after(&self, revision: u64) -> Result<Vec<Event>, u64> {
        let memory = self.lock();
        if revision < memory.compacted {
            return Err(memory.compacted);
        }
        let new = memory.history.iter().rev().take_while(|event| event.revision > revision);
        let mut events: Vec<Event> = new.cloned().collect();
        events.reverse();
        Ok(events)
    }

    /// Forgets all events so far: a watch from any earlier revision is answered 410.
    pub(crate) fn forget_history(&self) {
        let mut memory = self.lock();
        memory.compacted = memory.revision;
        memory.history.clear();
    }

    /// Writes a new object and gives it uid, revision and time of creation.
    pub(crate) fn create(&self, key: &Key, mut object: Value) -> Result<Value, Refused> {
        let mut memory = self.lock();
        if memory.objects.contains_key(key) {
            return Err(Refused::Exists);
        }
        let meta = &mut object["metadata"];
        meta["uid"] = json!(uid());
        meta["creationTimestamp"] = json!(self.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        Ok(self.write(&mut memory, key, object))
    }

    /// Replaces an object by what `change` makes of it, atomically.
    ///
    /// A `resourceVersion` that the change leaves in the object must be the present one.
    pub(crate) fn update<E: From<Refused>>(
        &self,
        key: &Key,
        dry_run: bool,
        change: impl FnOnce(&Value) -> Result<Value, E>,
    ) -> Result<Value, E> {
        let mut memory = self.lock();
        let Some(before) = memory.objects.get(key) else { return Err(Refused::Missing.into()) };
        let mut object = change(before)?;
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if !version.is_empty() && before["metadata"]["resourceVersion"] != version {
            return Err(Refused::Stale.into());
        }
        for fixed in ["uid", "creationTimestamp", "resourceVersion", "name", "namespace"] {
            if let Some(value) = before["metadata"].get(fixed) {
                object["metadata"][fixed] = value.clone();
            }
        }
        if dry_run || object == *before {
            return Ok(object);
        }
        Ok(self.write(&mut memory, key, object))
    }

    /// Removes an object and returns it as it was last seen.
    pub(crate) fn delete(&self, key: &Key) -> Result<Value, Refused> {
        let mut memory = self.lock();
        let before = memory.objects.remove(key).ok_or(Refused::Missing)?;
        memory.revision += 1;
        let mut last = before;
        last["metadata"]["resourceVersion"] = json!(memory.revision.to_string());
        let event =
            Event { revision: memory.revision, key: key.clone(), before: Some(last.clone()), now: None };
        self.publish(&mut memory, event);
        Ok(last)
    }

    fn write(&self, memory: &mut Memory, key: &Key, mut object: Value) -> Value {
        memory.revision += 1;
        object["metadata"]["resourceVersion"] = json!(memory.revision.to_string());
        let before = memory.objects.insert(key.clone(), object.clone());
        let event = Event { revision: memory.revision, key: key.clone(), before, now: Some(object.clone()) };
        self.publish(memory, event);
        object
    }

    fn publish(&self, memory: &mut Memory, event: Event) {
        memory.history.push_back(event);
        if memory.history.len() > HISTORY
            && let Some(oldest) = memory.history.pop_front()
        {
            memory.compacted = oldest.revision;
        }
        self.changed.send_replace(memory.revision);
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A random UUID of version 4.
pub(crate) fn uid() -> String {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

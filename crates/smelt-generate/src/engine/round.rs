//! Passes of groups of requests that go on side by side.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use smelt_backend::Kernels;

use super::handle::Shared;
use super::pass::pass;
use super::prefix::PrefixTree;
use super::queue::{Front, Queue, Room};
use super::running::{Running, dismiss};
use super::scheduler::{Engine, Resident};
use super::{LoadError, LoadedModel};

/// New tokens of a request from which on its keys and values are offered to the prefixes while it runs.
const KEPT_AT_ONCE: usize = 64;
/// How long groups go on where requests of another model wait for their turn.
const ROUND: Duration = Duration::from_millis(1);
/// How long a group of too few requests waits for more before groups are made anew.
const PATIENCE: Duration = Duration::from_millis(1);

/// Requests that share passes.
type Group<B> = Vec<Running<B>>;

impl<B, L> Engine<B, L>
where
    B: Kernels,
    L: FnMut(usize, &B::Device) -> Result<LoadedModel<B>, LoadError>,
{
    /// A round of all running requests of `model`: a pass, or many where groups of them go on side by side.
    pub(super) fn round(&mut self, model: usize) {
        let shared = self.queue.shared().clone();
        let prefix_bytes = self.prefix_bytes();
        let Some(Resident { loaded, weight_bytes, prefixes, .. }) = &mut self.residents[model] else {
            return;
        };
        let is_of_model = |request: &Running<B>| request.model == model;
        let (requests, others): (Group<B>, Group<B>) =
            std::mem::take(&mut self.running).into_iter().partition(is_of_model);
        let groups_of =
            |requests: usize| B::passes_at_once(&self.device, *weight_bytes, requests).min(requests);
        let count = groups_of(requests.len());
        let groups = dealt(requests, count);
        let round = Round {
            model,
            loaded,
            device: &self.device,
            shared: &shared,
            other_prefix_bytes: prefix_bytes - prefixes.as_ref().map_or(0, PrefixTree::bytes),
            prefixes: prefixes.as_mut().map(Mutex::new),
            queue: Mutex::new(&mut self.queue),
            fewest: (0..).find(|requests| groups_of(*requests) >= count).unwrap_or(count),
            ends: (!others.is_empty()).then(|| Instant::now() + ROUND),
            sizes: groups.iter().map(|group| AtomicUsize::new(group.len())).collect(),
            begun: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        };
        let groups = groups.into_iter().enumerate().collect();
        let groups = B::side_by_side(&self.device, groups, |(index, group)| round.run(index, group));
        self.running = others.into_iter().chain(groups.into_iter().flatten()).collect();
        self.running.sort_by_key(|request| request.answer.submitted());
    }
}

/// `items` in `count` groups of about as many.
fn dealt<T>(items: Vec<T>, count: usize) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    for (index, item) in items.into_iter().enumerate() {
        groups[index % count].push(item);
    }
    groups
}

/// What groups have in common that go on side by side: each runs passes of its own and takes in new requests between
/// them, so that none waits for another that reads a prompt, or whose core does something else for a while. A single
/// group runs one pass.
struct Round<'e, B: Kernels> {
    model: usize,
    loaded: &'e LoadedModel<B>,
    device: &'e B::Device,
    shared: &'e Shared,
    queue: Mutex<&'e mut Queue>,
    prefixes: Option<Mutex<&'e mut PrefixTree<B>>>,
    /// Memory of the prefixes of other models.
    other_prefix_bytes: u64,
    /// Requests that are enough for so many groups.
    fewest: usize,
    /// Until when others can wait.
    ends: Option<Instant>,
    /// Requests of each group.
    sizes: Vec<AtomicUsize>,
    /// Groups that have begun: where a thread is late, one that is done runs another's group instead of more passes.
    begun: AtomicUsize,
    is_over: AtomicBool,
}

/// Ends a round for all groups when one leaves it, even if it breaks down.
struct Ends<'r>(&'r AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<B: Kernels> Round<'_, B> {
    /// Passes of group `index` until the round is over; what is left of the group then.
    fn run(&self, index: usize, mut group: Group<B>) -> Group<B> {
        let _ends = Ends(&self.is_over);
        self.begun.fetch_add(1, Ordering::Relaxed);
        let mut short_since = None;
        loop {
            let started = Instant::now();
            let forward_seconds = (!group.is_empty()).then(|| self.pass(index, &mut group));
            if forward_seconds.is_none() {
                // Clients are about to ask again, and may need this core for it.
                thread::yield_now();
            }
            let goes_on = self.may_go_on() && self.take_in(index, &mut group);
            short_since = match self.has_share(&group) {
                true => None,
                false => short_since.or(Some(started)),
            };
            if let Some(forward_seconds) = forward_seconds {
                let host_seconds = started.elapsed().as_secs_f64() - forward_seconds;
                self.shared.lock_statistics().host_seconds += host_seconds;
            }
            if !goes_on || short_since.is_some_and(|since| since.elapsed() >= PATIENCE) {
                return group;
            }
        }
    }

    /// Whether groups go on side by side for longer.
    fn may_go_on(&self) -> bool {
        let groups = self.sizes.len();
        groups > 1
            && self.begun.load(Ordering::Relaxed) == groups
            && !self.is_over.load(Ordering::Relaxed)
            && self.ends.is_none_or(|ends| Instant::now() < ends)
    }

    /// A pass, and those leave the group that it ended; seconds of the forward pass.
    fn pass(&self, index: usize, group: &mut Group<B>) -> f64 {
        let Self { loaded, device, shared, .. } = *self;
        let forward_seconds = pass(group, loaded, device, shared);
        if let Some(prefixes) = &self.prefixes {
            group.iter_mut().for_each(|request| keep(prefixes, request));
        }
        let taken = dismiss(group, shared);
        self.sizes[index].store(group.len(), Ordering::Relaxed);
        if taken.requests > 0 {
            locked(&self.queue).give_back(taken);
        }
        forward_seconds
    }

    fn sizes(&self) -> impl Iterator<Item = usize> {
        self.sizes.iter().map(|size| size.load(Ordering::Relaxed))
    }

    /// Whether `group` has at least half as many requests as any other, and there are enough for all.
    fn has_share(&self, group: &Group<B>) -> bool {
        !group.is_empty()
            && self.sizes().all(|size| size <= 2 * group.len())
            && self.sizes().sum::<usize>() >= self.fewest
    }

    /// Takes requests in that wait, where no other group has fewer; false if this round is not for them, or none is left.
    fn take_in(&self, index: usize, group: &mut Group<B>) -> bool {
        // Who has it takes in what there is.
        let Ok(mut queue) = self.queue.try_lock() else { return true };
        queue.take_what_came();
        queue.drop_unwanted();
        while let Some(Front { model, cache, room }) = queue.front() {
            if model != self.model || room == Room::Never {
                return false;
            }
            if room == Room::Later || self.sizes().any(|size| size < group.len()) {
                break;
            }
            let Some(submitted) = queue.take_front(cache) else { break };
            self.shrink_prefixes(&queue);
            let mut prefixes = self.prefixes.as_ref().map(locked);
            let prefixes = prefixes.as_mut().map(|prefixes| &mut ***prefixes);
            match Running::begin(submitted, cache, self.shared, self.loaded, prefixes, self.device) {
                Ok(request) => group.push(request),
                Err(taken) => queue.give_back(taken),
            }
            self.sizes[index].store(group.len(), Ordering::Relaxed);
        }
        self.shrink_prefixes(&queue);
        self.sizes().any(|size| size > 0)
    }

    fn shrink_prefixes(&self, queue: &Queue) {
        if let Some(prefixes) = &self.prefixes {
            let mut prefixes = locked(prefixes);
            prefixes.shrink(queue.prefix_bytes().saturating_sub(self.other_prefix_bytes));
            self.shared.lock_statistics().prefix_bytes = self.other_prefix_bytes + prefixes.bytes();
        }
    }
}

/// Offers the keys and values of a request to the prefixes when its prompt was read, when it ended, and now and then.
fn keep<B: Kernels>(prefixes: &Mutex<&mut PrefixTree<B>>, request: &mut Running<B>) {
    let Running { sequence, answer, kept, ended, .. } = request;
    let seen = sequence.seen().min(sequence.tokens().len());
    let was_read = !answer.is_reading() && *kept < answer.prompt_tokens();
    if seen > *kept && (was_read || *ended || seen - *kept >= KEPT_AT_ONCE) {
        locked(prefixes).insert(&sequence.tokens()[..seen], |start| sequence.span(start));
        *kept = seen;
    }
}

/// What a mutex holds, whoever broke down with it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_about_as_many_in_the_order_in_which_they_came() {
        assert_eq!(dealt(vec![1, 2, 3, 4, 5], 2), [vec![1, 3, 5], vec![2, 4]]);
        assert_eq!(dealt(vec![1, 2], 1), [[1, 2]]);
    }
}

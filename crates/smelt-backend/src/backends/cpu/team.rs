//! Threads for work of microseconds: they wait for the next piece by looking for it.
//!
//! A decode step is a hundred small products, one after the other. A thread that sleeps between them takes
//! longer to wake than its share of the work takes, so a helper looks for more work for some microseconds before
//! it sleeps. The caller works, too, and takes what a late helper did not; nobody waits for one that sleeps.
//! There are as many threads as rayon's pool has.

#![allow(unsafe_code, reason = "a closure on the caller's stack is lent to threads that outlive it")]

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a helper looks for work before it sleeps: longer than what lies between two products of a decode
/// step, and short beside a time slice of the system.
const PATIENCE: Duration = Duration::from_micros(60);

/// Calls `work` with every number below `count`. Each thread begins with a part of its own, in order; those that
/// are done take what others have left.
///
/// Called from within such work, or while another thread's is in progress, the caller does all of it.
///
/// # Panics
/// If `work` does.
pub(super) fn each(count: usize, work: &(dyn Fn(usize) + Sync)) {
    shared_by(|_| true, count, one_by_one, &|numbers| numbers.for_each(work));
}

/// As [`each`], for numbers that are little work each: a thread takes half of what is left of a part at a time, so that
/// it seldom asks, and all end at about the same time.
pub(super) fn each_range(count: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
    shared_by(|_| true, count, by_halves, work);
}

/// As [`each`], for work that is too little to wake a thread for: only those help that look for work anyway.
pub(super) fn each_awake(count: usize, work: &(dyn Fn(usize) + Sync)) {
    shared_by(Team::is_awake, count, one_by_one, &|numbers| numbers.for_each(work));
}

/// As [`each_range`], by those threads only that [`each_awake`] says.
pub(super) fn each_range_awake(count: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
    shared_by(Team::is_awake, count, by_halves, work);
}

/// How many numbers are taken at a time, given how many are left; one at least.
type Take = fn(usize) -> usize;

fn one_by_one(_: usize) -> usize {
    1
}

fn by_halves(left: usize) -> usize {
    left.div_ceil(2)
}

fn shared_by(
    is_worth_it: impl Fn(&Team) -> bool,
    count: usize,
    take: Take,
    work: &(dyn Fn(Range<usize>) + Sync),
) {
    if count > 1 && !INSIDE.get() && is_worth_it(team()) {
        let team = team();
        let turn = match team.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if turn.is_some() && !team.helpers.is_empty() {
            return team.run(count, take, work);
        }
    }
    work(0..count);
}

/// Calls `work` with every item, as [`each`] does with numbers.
pub(super) fn for_each<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    items_by(each, items, work);
}

/// The results of `work`, in order, called as [`for_each`] does.
pub(super) fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    for_each(items.into_iter().zip(&mut results), |(item, result)| *result = Some(work(item)));
    results.into_iter().flatten().collect()
}

/// Into how many passes one of so many sequences through a model is best divided for [`map`]: one for each thread, or one.
///
/// Each pass reads all weights, from a thread's second cache if they fit there. Otherwise they come from the third, which
/// pays where several sequences use them.
pub(super) fn passes_at_once(weight_bytes: u64, sequences: usize) -> usize {
    /// Bytes of weights for each sequence of a pass; of these, the first few count.
    const BYTES: usize = 2 << 20;
    const SEQUENCES: usize = 8;
    let threads = threads();
    match weight_bytes <= (BYTES * sequences.div_ceil(threads).min(SEQUENCES)) as u64 {
        true => threads,
        false => 1,
    }
}

/// As [`for_each`], by those threads only that [`each_awake`] says.
pub(super) fn for_each_awake<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    if team().is_awake() {
        items_by(each_awake, items, work);
    } else {
        items.into_iter().for_each(work);
    }
}

fn items_by<T: Send>(
    each: impl Fn(usize, &(dyn Fn(usize) + Sync)),
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) + Sync,
) {
    if INSIDE.get() {
        return items.into_iter().for_each(work);
    }
    let mut items = items.into_iter();
    let (Some(first), second) = (items.next(), items.next()) else { return };
    let Some(second) = second else { return work(first) };
    let items: Vec<_> = [first, second].into_iter().chain(items).map(|item| Mutex::new(Some(item))).collect();
    each(items.len(), &|index| {
        let item = items[index].lock().unwrap_or_else(PoisonError::into_inner).take();
        work(item.expect("every number is given once"));
    });
}

/// Threads that [`each`] divides work among, the caller included: the caller alone within such work.
pub(super) fn threads() -> usize {
    if INSIDE.get() { 1 } else { team().helpers.len() + 1 }
}

thread_local! {
    /// This thread does a part of some work.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| Team::new(rayon::current_num_threads()))
}

struct Team {
    /// One piece of work at a time.
    turn: Mutex<()>,
    helpers: Vec<Helper>,
    shared: &'static Shared,
}

struct Helper {
    thread: Thread,
    asleep: &'static AtomicBool,
}

/// What the caller and the helpers both see.
struct Shared {
    /// The work in progress, or null. It lives on the stack of the caller, who takes it back from here and then
    /// waits until nobody is `inside`.
    work: AtomicPtr<Work<'static>>,
    /// How much work there has been.
    number: AtomicUsize,
    /// Helpers that may hold a reference to the work.
    inside: AtomicUsize,
}

struct Work<'a> {
    call: &'a (dyn Fn(Range<usize>) + Sync),
    take: Take,
    parts: [Part; MAX_PARTS],
    /// Of the parts, those that have work.
    used: usize,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

/// Parts of the work that threads may have of their own.
const MAX_PARTS: usize = 32;

/// Numbers that one thread begins with; on a cache line of its own.
#[repr(align(64))]
struct Part {
    next: AtomicUsize,
    end: usize,
}

impl<'a> Work<'a> {
    fn new(count: usize, threads: usize, take: Take, call: &'a (dyn Fn(Range<usize>) + Sync)) -> Self {
        let used = threads.min(count).min(MAX_PARTS);
        let parts = std::array::from_fn(|part| {
            let [start, end] = [part, part + 1].map(|part| part.min(used) * count / used);
            Part { next: AtomicUsize::new(start), end }
        });
        Self { call, take, parts, used, panic: Mutex::new(None) }
    }

    /// Takes numbers until none is left, from part `first` first.
    fn take_part(&self, first: usize) {
        INSIDE.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for part in 0..self.used {
                let Part { next, end } = &self.parts[(first + part) % self.used];
                let mut start = next.load(Ordering::Relaxed);
                while start < *end {
                    let after = start + (self.take)(*end - start);
                    start = match next.compare_exchange(start, after, Ordering::Relaxed, Ordering::Relaxed) {
                        Ok(_) => {
                            (self.call)(start..after);
                            next.load(Ordering::Relaxed)
                        }
                        Err(taken) => taken,
                    };
                }
            }
        }));
        INSIDE.set(false);
        if let Err(panic) = outcome {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

impl Team {
    fn new(threads: usize) -> Self {
        // One for the process: helpers refer to it as long as they live.
        let shared: &'static Shared = Box::leak(Box::new(Shared {
            work: AtomicPtr::new(std::ptr::null_mut()),
            number: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
        }));
        // With fewer threads than asked for, work takes longer and gives the same.
        let helpers = (1..threads).map_while(|index| {
            let asleep: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
            let builder = thread::Builder::new().name(format!("smelt-cpu-{index}"));
            let thread = builder.spawn(move || help(index, shared, asleep)).ok()?;
            Some(Helper { thread: thread.thread().clone(), asleep })
        });
        Self { turn: Mutex::new(()), helpers: helpers.collect(), shared }
    }

    /// Whether anyone looks for work.
    fn is_awake(&self) -> bool {
        self.helpers.iter().any(|helper| !helper.asleep.load(Ordering::Relaxed))
    }

    fn run(&self, count: usize, take: Take, call: &(dyn Fn(Range<usize>) + Sync)) {
        let work = Work::new(count, self.helpers.len() + 1, take, call);
        self.shared.work.store((&raw const work).cast_mut().cast(), Ordering::SeqCst);
        self.shared.number.fetch_add(1, Ordering::SeqCst);
        for helper in self.helpers.iter().take(count - 1) {
            if helper.asleep.load(Ordering::SeqCst) {
                helper.thread.unpark();
            }
        }
        work.take_part(0);
        self.shared.work.store(std::ptr::null_mut(), Ordering::SeqCst);
        // From here on helpers find nothing; those inside finish what they took.
        let mut rounds = 0u32;
        while self.shared.inside.load(Ordering::SeqCst) != 0 {
            rounds += 1;
            if rounds.is_multiple_of(256) { thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = work.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// The life of helper `index`, counted from 1.
fn help(index: usize, shared: &Shared, asleep: &AtomicBool) {
    let mut done = 0;
    loop {
        done = next_number(shared, asleep, done);
        shared.inside.fetch_add(1, Ordering::SeqCst);
        let work = shared.work.load(Ordering::SeqCst);
        if !work.is_null() {
            // SAFETY: the work was there after `inside` counted this thread, so its owner waits for it.
            unsafe { &*work }.take_part(index);
        }
        shared.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until there is other work than number `done`, and returns its number.
fn next_number(shared: &Shared, asleep: &AtomicBool, done: usize) -> usize {
    let started = Instant::now();
    let changed = || Some(shared.number.load(Ordering::SeqCst)).filter(|number| *number != done);
    loop {
        for _ in 0..64 {
            if let Some(number) = changed() {
                return number;
            }
            std::hint::spin_loop();
        }
        // Whoever else wants this core, such as the one whose request comes next, need not wait for a time slice.
        thread::yield_now();
        if started.elapsed() > PATIENCE {
            asleep.store(true, Ordering::SeqCst);
            // Whoever changes the number after this look sees `asleep` and wakes this thread.
            while changed().is_none() {
                thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(sum: &AtomicUsize, value: usize) {
        sum.fetch_add(value, Ordering::Relaxed);
    }

    #[test]
    fn every_number_is_taken_once_whoever_asks() {
        let ask = || {
            for count in [0, 1, 2, 3, 100] {
                let taken: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..200 {
                    each(count, &|index| add(&taken[index], 1));
                    each_range(count, &|numbers| numbers.for_each(|index| add(&taken[index], 1)));
                }
                assert!(taken.iter().all(|times| times.load(Ordering::Relaxed) == 400));
            }
        };
        thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(ask))));
    }

    #[test]
    fn a_panic_comes_back_and_leaves_the_team_intact() {
        let outcome = catch_unwind(|| each(8, &|index| assert_ne!(index, 5, "as asked")));
        assert!(outcome.is_err());
        let sum = AtomicUsize::new(0);
        each(8, &|index| add(&sum, index));
        assert_eq!(sum.into_inner(), 28);
    }

    #[test]
    fn results_come_in_order() {
        assert_eq!(
            map((0..100).collect(), |number: usize| number * number),
            Vec::from_iter((0..100).map(|n| n * n))
        );
    }

    #[test]
    fn work_within_work_is_done() {
        let sum = AtomicUsize::new(0);
        each(4, &|_| each(4, &|index| add(&sum, index)));
        assert_eq!(sum.into_inner(), 24);
    }

    #[test]
    fn within_work_there_is_one_thread() {
        let sum = AtomicUsize::new(0);
        Work::new(4, 2, one_by_one, &|_| add(&sum, threads())).take_part(0);
        assert_eq!(sum.into_inner(), 4);
        assert_eq!(threads(), team().helpers.len() + 1);
    }
}

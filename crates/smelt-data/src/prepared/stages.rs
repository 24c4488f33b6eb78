//! Three stages at once: reading ahead, working on all cores, and what must happen in order.

use std::sync::mpsc::sync_channel;
use std::thread;

use crate::DataError;

/// Passes what `source` yields through `work`, on a thread each, to `sink` on this one, in order.
///
/// A stage is at most one batch ahead of the next, which bounds memory. `work` is meant to share its
/// batch among rayon's threads. Ends with the first error of `sink`.
pub fn in_stages<A: Send, B: Send>(
    source: impl Iterator<Item = A> + Send,
    work: impl Fn(A) -> B + Send,
    mut sink: impl FnMut(B) -> Result<(), DataError>,
) -> Result<(), DataError> {
    thread::scope(|scope| {
        let (read, to_work) = sync_channel(1);
        let (worked, to_sink) = sync_channel(1);
        // A closed channel means that a later stage ended: there is nothing to add to what it says.
        scope.spawn(move || {
            for batch in source {
                if read.send(batch).is_err() {
                    break;
                }
            }
        });
        scope.spawn(move || {
            for batch in to_work {
                if worked.send(work(batch)).is_err() {
                    break;
                }
            }
        });
        to_sink.into_iter().try_for_each(&mut sink)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_an_error_ends_all() {
        let mut seen = Vec::new();
        in_stages(
            0..100,
            |number| number * 2,
            |number| {
                seen.push(number);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, (0..200).step_by(2).collect::<Vec<_>>());

        let mut seen = 0;
        let error = in_stages(
            0..,
            |number: u64| number,
            |_| {
                seen += 1;
                if seen == 5 { Err(DataError::Interrupted) } else { Ok(()) }
            },
        );
        assert!(matches!(error, Err(DataError::Interrupted)));
        assert_eq!(seen, 5);
    }
}

//! Streams: answers that are longer than a message.
//!
//! A `#[stream]` method is a call for one batch. The client says where the batch is to start, by a
//! cursor that the server gave it with the batch before; the server keeps nothing. So a stream is
//! made of plain calls to a lower level, an abandoned one leaves nothing behind, and a batch whose
//! server died is asked of the next instance again: streams are idempotent by themselves.

use alloc::vec::Vec;

use libsys::abi::MAX_MESSAGE_BYTES;
use serde::{Deserialize, Serialize};

use crate::wire;
use crate::{Failure, Protocol};

/// Bytes of items in one batch: with a cursor of at most 56 bytes the message still fits.
pub const MAX_BATCH_BYTES: usize = MAX_MESSAGE_BYTES - 64;

/// A part of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Batch<T, C> {
    /// The items; may be empty before the end.
    pub items: Vec<T>,
    /// Where the next part starts, `None` at the end.
    pub next: Option<C>,
    /// The items as they will travel, to know what room is left.
    #[serde(skip)]
    room: Vec<u8>,
    #[serde(skip)]
    used: usize,
}

impl<T, C> Default for Batch<T, C> {
    fn default() -> Self {
        Batch {
            items: Vec::new(),
            next: None,
            room: Vec::new(),
            used: 0,
        }
    }
}

impl<T: PartialEq, C: PartialEq> PartialEq for Batch<T, C> {
    fn eq(&self, other: &Self) -> bool {
        (&self.items, &self.next) == (&other.items, &other.next)
    }
}

impl<T: Eq, C: Eq> Eq for Batch<T, C> {}

impl<T: Serialize, C> Batch<T, C> {
    /// Adds an item if the batch still fits into a message; else the next batch starts at `at`,
    /// the item's own cursor. Returns whether there was room.
    ///
    /// An item that has no room in an empty batch ends the stream with
    /// [`Protocol::StuckStream`]: keep items below [`MAX_BATCH_BYTES`].
    pub fn try_push(&mut self, item: T, at: C) -> bool {
        if self.room.is_empty() {
            self.room.resize(MAX_BATCH_BYTES, 0);
        }
        let room = self.room.get_mut(self.used..).unwrap_or_default();
        match wire::encode(&item, room) {
            Ok(bytes) => {
                self.used += bytes;
                self.items.push(item);
                true
            }
            Err(_) => {
                self.next = Some(at);
                false
            }
        }
    }

    /// Takes items with their cursors as long as there is room.
    pub fn of(items: impl IntoIterator<Item = (T, C)>) -> Self {
        let mut batch = Batch::default();
        for (item, at) in items {
            if !batch.try_push(item, at) {
                break;
            }
        }
        batch
    }
}

/// Returns whether the next batch is another one than that which was asked for: what every stream
/// promises.
pub fn gets_on<T, C: PartialEq>(from: &C, batch: &Batch<T, C>) -> bool {
    batch.next.as_ref() != Some(from)
}

/// The items of a stream, asked for batch by batch. It ends after the first failure.
#[derive(Debug)]
pub struct Items<T, C, F> {
    batch: alloc::vec::IntoIter<T>,
    next: Option<C>,
    ask: F,
}

impl<T, C, E, F> Items<T, C, F>
where
    C: Default + PartialEq + Clone,
    F: FnMut(C) -> Result<Batch<T, C>, Failure<E>>,
{
    /// Starts at the default cursor; `ask` gets the batch at a cursor.
    pub fn new(ask: F) -> Self {
        Items {
            batch: Vec::new().into_iter(),
            next: Some(C::default()),
            ask,
        }
    }

    /// Gets the batch at a cursor.
    fn fetch(&mut self, from: C) -> Result<(), Failure<E>> {
        let batch = (self.ask)(from.clone())?;
        // A cursor that stands still would never end.
        if !gets_on(&from, &batch) {
            return Err(Protocol::StuckStream.into());
        }
        self.batch = batch.items.into_iter();
        self.next = batch.next;
        Ok(())
    }
}

impl<T, C, E, F> Iterator for Items<T, C, F>
where
    C: Default + PartialEq + Clone,
    F: FnMut(C) -> Result<Batch<T, C>, Failure<E>>,
{
    type Item = Result<T, Failure<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.batch.next() {
                return Some(Ok(item));
            }
            let from = self.next.take()?;
            if let Err(failure) = self.fetch(from) {
                return Some(Err(failure));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, Items, MAX_BATCH_BYTES};
    use crate::{Failure, Protocol};

    type Answer = Result<Batch<u32, u8>, Failure<()>>;

    fn batch(items: &[u32], next: Option<u8>) -> Answer {
        Ok(Batch {
            items: items.to_vec(),
            next,
            ..Batch::default()
        })
    }

    #[test]
    fn items_come_in_order_and_empty_batches_do_not_end_them() {
        let items: Result<Vec<u32>, _> = Items::new(|from: u8| match from {
            0 => batch(&[1, 2], Some(7)),
            7 => batch(&[], Some(3)),
            _ => batch(&[5], None),
        })
        .collect();
        assert_eq!(items, Ok(vec![1, 2, 5]));
    }

    #[test]
    fn the_first_failure_is_the_last_item() {
        let mut items = Items::new(|from: u8| match from {
            0 => batch(&[1], Some(1)),
            _ => Err(Failure::Server(())),
        });
        assert_eq!(items.next(), Some(Ok(1)));
        assert_eq!(items.next(), Some(Err(Failure::Server(()))));
        assert_eq!(items.next(), None);
    }

    #[test]
    fn a_cursor_that_stands_still_is_a_failure_and_not_for_ever() {
        let items: Vec<_> = Items::new(|from: u8| batch(&[1], Some(from))).collect();
        assert_eq!(items, [Err(Failure::Protocol(Protocol::StuckStream))]);
    }

    #[test]
    fn a_batch_takes_what_fits_and_says_where_to_go_on() {
        let batch = Batch::of((0_u32..).map(|number| (number, number)));
        assert_eq!(batch.items.len(), MAX_BATCH_BYTES / 4);
        assert_eq!(batch.next, Some(batch.items.len() as u32));
        let answer: Result<_, ()> = Ok((batch,));
        let mut page = [0; libsys::abi::MAX_MESSAGE_BYTES];
        assert!(crate::wire::encode(&answer, &mut page).is_ok());
        let batch: Batch<u32, u32> = Batch::of([(1, 0)]);
        assert_eq!((batch.items, batch.next), (vec![1], None));
    }
}

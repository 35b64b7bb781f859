//! Memory for futures that is used again.
//!
//! A server polls each request at once, and most end in that poll. Asking the heap for memory
//! before it and giving it back afterwards would cost more than all else the server does for a
//! short request. So the rooms of futures that ended are kept for those that follow.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::future::Future;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};

/// Bytes of a room: futures of most methods fit. Longer ones get a box of their own.
const ROOM_BYTES: usize = 512;
/// Alignment of a room.
const ROOM_ALIGNMENT: usize = 16;
/// Most empty rooms that are kept.
const MAX_SPARE: usize = 16;

/// Memory for one future.
#[repr(C, align(16))]
struct Room(MaybeUninit<[u8; ROOM_BYTES]>);

const _: () = assert!(align_of::<Room>() == ROOM_ALIGNMENT);

/// Rooms for futures.
#[derive(Default)]
#[expect(
    clippy::vec_box,
    reason = "a room must stay where it is while a future is in it"
)]
pub struct Places {
    spare: RefCell<Vec<Box<Room>>>,
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}

impl Places {
    /// Makes an empty list of rooms.
    pub const fn new() -> Self {
        Places {
            spare: RefCell::new(Vec::new()),
        }
    }

    /// Puts a future where it can stay until it ends.
    #[inline]
    pub fn place<T, F: Future<Output = T> + 'static>(&self, future: F) -> Placed<T> {
        if size_of::<F>() > ROOM_BYTES || align_of::<F>() > ROOM_ALIGNMENT {
            let future: *mut (dyn Future<Output = T> + 'static) = Box::into_raw(Box::new(future));
            return Placed {
                // SAFETY: a box is never null.
                future: unsafe { NonNull::new_unchecked(future) },
                room: None,
            };
        }
        let spare = self.spare.borrow_mut().pop();
        let room = Box::into_raw(spare.unwrap_or_else(|| Box::new(Room(MaybeUninit::uninit()))));
        // SAFETY: a box is never null.
        let room = unsafe { NonNull::new_unchecked(room) };
        let place = room.cast::<F>();
        // SAFETY: the room is large enough and aligned, as was checked above, and empty.
        unsafe { place.write(future) };
        Placed {
            future: place,
            room: Some(room),
        }
    }

    /// Drops a future and keeps its room.
    #[inline]
    pub fn recycle<T>(&self, placed: Placed<T>) {
        // Its own drop would take it apart once more.
        if let Some(room) = ManuallyDrop::new(placed).take_apart() {
            let mut spare = self.spare.borrow_mut();
            if spare.len() < MAX_SPARE {
                spare.push(room);
            }
        }
    }
}

/// A future that stays where it is: pinned.
pub struct Placed<T> {
    /// In the room, or in a box of its own; [`Placed::take_apart`] drops it.
    future: NonNull<dyn Future<Output = T>>,
    room: Option<NonNull<Room>>,
}

impl<T> fmt::Debug for Placed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed").finish_non_exhaustive()
    }
}

impl<T> Placed<T> {
    /// Polls the future. Not again once it has ended.
    #[inline]
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<T> {
        // SAFETY: it is there until this is dropped, and `&mut self` is the only access.
        let future = unsafe { self.future.as_mut() };
        // SAFETY: it is never moved before it is dropped.
        unsafe { Pin::new_unchecked(future) }.poll(context)
    }

    /// Drops the future and returns its room. To be called once: this must not be used, nor
    /// dropped, afterwards.
    #[inline]
    fn take_apart(&mut self) -> Option<Box<Room>> {
        let Some(room) = self.room else {
            // SAFETY: `Places::place` took it from a box; nobody uses it after this.
            drop(unsafe { Box::from_raw(self.future.as_ptr()) });
            return None;
        };
        // SAFETY: `Places::place` wrote it there; nobody uses it after this.
        unsafe { self.future.drop_in_place() };
        // SAFETY: `Places::place` took it from a box, and it is empty now.
        Some(unsafe { Box::from_raw(room.as_ptr()) })
    }
}

impl<T> Drop for Placed<T> {
    fn drop(&mut self) {
        self.take_apart();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};

    use super::{MAX_SPARE, Places};

    /// Counts how often it is dropped.
    struct Counted(Rc<Cell<u32>>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn futures_end_and_their_rooms_come_back() {
        let places = Places::new();
        for number in 0..3_u32 {
            let mut placed = places.place(async move { number + ready(1).await });
            assert_eq!(placed.poll(&mut context()), Poll::Ready(number + 1));
            places.recycle(placed);
            assert_eq!(places.spare.borrow().len(), 1);
        }
    }

    #[test]
    fn all_that_a_future_has_is_dropped_once() {
        let (places, drops) = (Places::new(), Rc::new(Cell::new(0)));
        let waits = |bytes: [u8; 4]| {
            let counted = Counted(Rc::clone(&drops));
            async move {
                let _counted = counted;
                pending::<()>().await;
                bytes
            }
        };
        let waits_long = || {
            let counted = Counted(Rc::clone(&drops));
            async move {
                let (_counted, large) = (counted, [7_u8; 2000]);
                pending::<()>().await;
                large[5]
            }
        };
        let mut first = places.place(waits([1; 4]));
        let mut second = places.place(waits([2; 4]));
        let mut third = places.place(waits_long());
        assert!(first.poll(&mut context()).is_pending());
        assert!(second.poll(&mut context()).is_pending());
        assert!(third.poll(&mut context()).is_pending());
        drop(first);
        assert_eq!(drops.get(), 1);
        places.recycle(second);
        assert_eq!(drops.get(), 2);
        places.recycle(third);
        assert_eq!(drops.get(), 3);
        assert_eq!(places.spare.borrow().len(), 1);
    }

    #[test]
    fn a_future_that_needs_more_alignment_gets_it() {
        #[derive(Clone, Copy)]
        #[repr(align(64))]
        struct Aligned(u8);
        let places = Places::new();
        let value = Aligned(9);
        let mut placed = places.place(async move {
            let value = value;
            ready(()).await;
            (&raw const value).addr() % 64 + usize::from(value.0)
        });
        assert_eq!(placed.poll(&mut context()), Poll::Ready(9));
    }

    #[test]
    fn not_all_rooms_of_a_rush_are_kept() {
        let places = Places::new();
        let many: Vec<_> = (0..3 * MAX_SPARE)
            .map(|_| places.place(ready(())))
            .collect();
        for placed in many {
            places.recycle(placed);
        }
        assert_eq!(places.spare.borrow().len(), MAX_SPARE);
    }
}

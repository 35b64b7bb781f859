//! Memory for futures that is used again.
//!
//! A server polls each request at once, and most end in that poll. Asking the heap for memory
//! before it and giving it back afterwards would cost more than all else the server does for a
//! short request. So the rooms of futures that ended are kept for those that follow.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
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
    /// The room that was left last: most of the time it is the only one.
    last: Cell<Option<Box<Room>>>,
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
            last: Cell::new(None),
            spare: RefCell::new(Vec::new()),
        }
    }

    /// Polls a future for the first time, where it can stay if it does not end.
    ///
    /// # Errors
    ///
    /// The future, when it has to wait.
    #[inline]
    pub fn begin<T, F: Future<Output = T> + 'static>(
        &self,
        future: F,
        context: &mut Context<'_>,
    ) -> Result<T, Placed<T>> {
        if size_of::<F>() > ROOM_BYTES || align_of::<F>() > ROOM_ALIGNMENT {
            let mut future = Box::pin(future);
            return match future.as_mut().poll(context) {
                Poll::Ready(output) => Ok(output),
                Poll::Pending => Err(Placed::boxed(future)),
            };
        }
        let room = Box::into_raw(self.take_room());
        let place = room.cast::<F>();
        // SAFETY: the room is large enough and aligned, as was checked above, and empty.
        unsafe { place.write(future) };
        // SAFETY: it was just written, and nobody else knows the room.
        let future = unsafe { &mut *place };
        // SAFETY: it is not moved before it is dropped.
        let polled = unsafe { Pin::new_unchecked(future) }.poll(context);
        match polled {
            Poll::Ready(output) => {
                // SAFETY: it was written there and is not used after this.
                unsafe { place.drop_in_place() };
                // SAFETY: it came from a box above, and it is empty now.
                self.give_back(unsafe { Box::from_raw(room) });
                Ok(output)
            }
            Poll::Pending => Err(Placed {
                // SAFETY: a box is never null.
                future: unsafe { NonNull::new_unchecked(place) },
                room: NonNull::new(room),
            }),
        }
    }

    /// Drops a future and keeps its room.
    pub fn recycle<T>(&self, placed: Placed<T>) {
        // Its own drop would take it apart once more.
        if let Some(room) = ManuallyDrop::new(placed).take_apart() {
            self.give_back(room);
        }
    }

    #[inline]
    fn take_room(&self) -> Box<Room> {
        self.last.take().unwrap_or_else(|| self.take_other())
    }

    #[cold]
    fn take_other(&self) -> Box<Room> {
        let spare = self.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| Box::new(Room(MaybeUninit::uninit())))
    }

    #[inline]
    fn give_back(&self, room: Box<Room>) {
        if let Some(other) = self.last.replace(Some(room)) {
            self.keep(other);
        }
    }

    #[cold]
    fn keep(&self, room: Box<Room>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < MAX_SPARE {
            spare.push(room);
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
    fn boxed<F: Future<Output = T> + 'static>(future: Pin<Box<F>>) -> Self {
        // SAFETY: it is not moved before it is dropped: only its address is kept.
        let future: Box<dyn Future<Output = T>> = unsafe { Pin::into_inner_unchecked(future) };
        Placed {
            // SAFETY: a box is never null.
            future: unsafe { NonNull::new_unchecked(Box::into_raw(future)) },
            room: None,
        }
    }

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
            // SAFETY: `Placed::boxed` took it from a box; nobody uses it after this.
            drop(unsafe { Box::from_raw(self.future.as_ptr()) });
            return None;
        };
        // SAFETY: `Places::begin` wrote it there; nobody uses it after this.
        unsafe { self.future.drop_in_place() };
        // SAFETY: `Places::begin` took it from a box, and it is empty now.
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

    fn rooms(places: &Places) -> usize {
        let last = places.last.take();
        let rooms = usize::from(last.is_some()) + places.spare.borrow().len();
        places.last.set(last);
        rooms
    }

    /// Ends at its second poll.
    async fn wait_once() {
        let mut was_polled = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut was_polled, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    #[test]
    fn futures_end_and_their_rooms_come_back() {
        let places = Places::new();
        for number in 0..3_u32 {
            let ended = places.begin(async move { number + ready(1).await }, &mut context());
            assert_eq!(ended.ok(), Some(number + 1));
            assert_eq!(rooms(&places), 1);
        }
        let waits = places.begin(
            async {
                wait_once().await;
                5
            },
            &mut context(),
        );
        let mut waits = waits.unwrap_err();
        assert_eq!(rooms(&places), 0);
        assert_eq!(waits.poll(&mut context()), Poll::Ready(5));
        places.recycle(waits);
        assert_eq!(rooms(&places), 1);
    }

    #[test]
    fn all_that_a_future_has_is_dropped_once() {
        let (places, drops) = (Places::new(), Rc::new(Cell::new(0)));
        let waits = || {
            let counted = Counted(Rc::clone(&drops));
            let future = async move {
                let _counted = counted;
                pending::<()>().await;
            };
            places.begin(future, &mut context()).unwrap_err()
        };
        let waits_long = || {
            let counted = Counted(Rc::clone(&drops));
            let future = async move {
                let (_counted, large) = (counted, [7_u8; 2000]);
                pending::<()>().await;
                std::hint::black_box(&large);
            };
            places.begin(future, &mut context()).unwrap_err()
        };
        let (first, second, third) = (waits(), waits(), waits_long());
        drop(first);
        assert_eq!(drops.get(), 1);
        places.recycle(second);
        assert_eq!(drops.get(), 2);
        places.recycle(third);
        assert_eq!(drops.get(), 3);
        assert_eq!(rooms(&places), 1);
        let counted = Counted(Rc::clone(&drops));
        assert!(
            places
                .begin(async move { drop(counted) }, &mut context())
                .is_ok()
        );
        assert_eq!(drops.get(), 4);
    }

    #[test]
    fn a_future_that_needs_more_alignment_gets_it() {
        #[derive(Clone, Copy)]
        #[repr(align(64))]
        struct Aligned(u8);
        let (places, value) = (Places::new(), Aligned(9));
        let future = async move {
            let value = value;
            wait_once().await;
            (&raw const value).addr() % 64 + usize::from(value.0)
        };
        let mut placed = places.begin(future, &mut context()).unwrap_err();
        assert_eq!(placed.poll(&mut context()), Poll::Ready(9));
    }

    #[test]
    fn not_all_rooms_of_a_rush_are_kept() {
        let places = Places::new();
        let begin = |_| places.begin(pending::<()>(), &mut context()).unwrap_err();
        let many: Vec<_> = (0..3 * MAX_SPARE).map(begin).collect();
        for placed in many {
            places.recycle(placed);
        }
        assert_eq!(rooms(&places), MAX_SPARE + 1);
    }
}

//! Tasks of one event loop waiting for each other, for bits and for time.

use std::cell::RefCell;
use std::rc::Rc;

use libipc::loopback::Loopback;
use libipc::sync::{Mutex, Signal};

/// An event loop, and a list that its tasks write to.
fn event_loop() -> (Rc<Loopback>, Rc<RefCell<Vec<u32>>>) {
    (Rc::new(Loopback::default()), Rc::default())
}

#[test]
fn a_signal_wakes_all_that_wait_and_none_that_come_later() {
    let (event_loop, seen) = event_loop();
    let signal = Signal::new();
    for number in 0..3 {
        let (signal, seen) = (signal.clone(), Rc::clone(&seen));
        event_loop.events().spawn(async move {
            signal.wait().await;
            seen.borrow_mut().push(number);
            signal.wait().await;
            seen.borrow_mut().push(10 + number);
        });
    }
    event_loop.run();
    assert!(seen.borrow().is_empty());
    signal.notify();
    event_loop.run();
    assert_eq!(*seen.borrow(), [0, 1, 2]);
    signal.notify();
    event_loop.run();
    assert_eq!(seen.borrow()[3..], [10, 11, 12]);
}

#[test]
fn a_mutex_is_held_by_one_task_across_waits() {
    let (event_loop, seen) = event_loop();
    let (mutex, signal) = (Rc::new(Mutex::new()), Signal::new());
    for number in 0..3 {
        let (mutex, signal, seen) = (Rc::clone(&mutex), signal.clone(), Rc::clone(&seen));
        event_loop.events().spawn(async move {
            let _guard = mutex.lock().await;
            seen.borrow_mut().push(number);
            signal.wait().await;
            seen.borrow_mut().push(number);
        });
    }
    for _ in 0..3 {
        event_loop.run();
        signal.notify();
    }
    event_loop.run();
    let seen = seen.take();
    assert_eq!(seen.len(), 6);
    assert!(
        seen.as_chunks::<2>()
            .0
            .iter()
            .all(|[first, second]| first == second),
        "{seen:?}"
    );
}

#[test]
fn until_ends_at_the_deadline_or_before_and_leaves_the_bit_to_others() {
    let (event_loop, seen) = event_loop();
    let events = event_loop.events();
    for (deadline, bit) in [(100, 1), (200, 1), (200, 2)] {
        let (own, seen) = (events.clone(), Rc::clone(&seen));
        events.spawn(async move {
            let came = own.until(deadline, own.bit(bit)).await.is_some();
            seen.borrow_mut()
                .push(deadline as u32 + u32::from(bit) * 10 + u32::from(came));
        });
    }
    event_loop.run();
    event_loop.advance(100);
    assert_eq!(*seen.borrow(), [110]);
    event_loop.raise(1 << 1);
    assert_eq!(*seen.borrow(), [110, 211]);
    event_loop.advance(200);
    assert_eq!(*seen.borrow(), [110, 211, 220]);
}

#[test]
fn tasks_start_tasks() {
    let (event_loop, seen) = event_loop();
    let events = event_loop.events();
    let (outer, inner) = (events.clone(), Rc::clone(&seen));
    events.spawn(async move {
        let seen = Rc::clone(&inner);
        outer.spawn(async move { seen.borrow_mut().push(2) });
        inner.borrow_mut().push(1);
    });
    event_loop.run();
    assert_eq!(*seen.borrow(), [1, 2]);
}

//! Mistakes in writing and reading replies are found before anyone believes them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libipc::loopback::Loopback;
use libipc::{Caller, Failure, Protocol};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

thread_local! {
    /// How many times more values are written and read soundly; the next time is not.
    static SOUND: Cell<(u32, u32)> = const { Cell::new((u32::MAX, u32::MAX)) };
}

/// A number that is not always written and read as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Number(u64);

/// Counts down, and returns whether this is the time.
fn is_time(count: &mut u32) -> bool {
    let is_time = *count == 0;
    *count = count.wrapping_sub(1);
    is_time
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut writes, reads) = SOUND.get();
        let mistake = u64::from(is_time(&mut writes));
        SOUND.set((writes, reads));
        (self.0 + mistake).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (writes, mut reads) = SOUND.get();
        let mistake = u64::from(is_time(&mut reads));
        SOUND.set((writes, reads));
        Ok(Number(u64::deserialize(deserializer)? + mistake))
    }
}

/// Gives numbers back.
#[libipc::interface(version = 1)]
#[compared]
trait Echo {
    /// Returns the number; it is not asked for again.
    #[exactly_once]
    fn echo(number: Number) -> Result<Number, Number>;
}

struct Server;

impl EchoServer for Server {
    async fn echo(&self, _: &Caller, number: Number) -> Result<Number, Number> {
        if number.0 == 0 {
            Err(number)
        } else {
            Ok(number)
        }
    }
}

/// Calls with a mistake after so many sound writes and reads. Returns what the client got, and how
/// often the server doubted itself then; nothing if it ended.
fn call(number: u64, writes: u32, reads: u32) -> Option<(Result<Number, Failure<Number>>, u32)> {
    let loopback = Loopback::new(EchoDispatcher::new(std::rc::Rc::new(Server)));
    let client = EchoClient::from_client(loopback.client());
    SOUND.set((writes, reads));
    let result = catch_unwind(AssertUnwindSafe(|| client.echo(Number(number))));
    SOUND.set((u32::MAX, u32::MAX));
    Some((result.ok()?, loopback.suspects()))
}

#[test]
fn mistakes_in_replies_are_found_where_they_are_made() {
    let never = u32::MAX;
    for number in [0, 7] {
        let sound = || {
            let result = match number {
                0 => Err(Failure::Server(Number(0))),
                _ => Ok(Number(number)),
            };
            Some((result, 0))
        };
        assert_eq!(call(number, never, never), sound());
        // The request is the first that is written.
        assert_eq!(call(number, 1, never), None, "reply written");
        // Before it the server looks whether the reply can be read.
        let outcome = call(number, never, 2);
        let refused = Err(Failure::Protocol(Protocol::BadReply));
        // The client complains, as it has nobody to tell.
        assert_eq!(outcome, Some((refused, 1)), "reply read");
    }
}

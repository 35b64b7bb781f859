//! The messages of the console interface look on the wire as they did before.

use std::rc::Rc;

use libipc::Caller;
use libipc::loopback::Loopback;
use libipc::proto::console::{
    ConsoleClient, ConsoleDispatcher, ConsoleError, ConsoleServer, InputMode,
};
use libsys::{Handle, Notification, RawHandle, Sender};

struct Fake;

impl ConsoleServer for Fake {
    async fn write(&self, _caller: &Caller, bytes: Vec<u8>) -> Result<(), ConsoleError> {
        if bytes.len() > 100 {
            return Err(ConsoleError::TooLong);
        }
        Ok(())
    }

    async fn read(&self, _caller: &Caller, max: u32) -> Result<Vec<u8>, ConsoleError> {
        Ok(vec![b'x'; max as usize])
    }

    async fn set_mode(&self, _caller: &Caller, _mode: InputMode) -> Result<(), ConsoleError> {
        Err(ConsoleError::Device)
    }

    async fn on_interrupt(
        &self,
        _caller: &Caller,
        _notification: Handle<Notification>,
    ) -> Result<(), ConsoleError> {
        Ok(())
    }

    async fn new_session(&self, _caller: &Caller) -> Result<Handle<Sender>, ConsoleError> {
        Ok(Handle::from_raw(RawHandle(7)))
    }

    async fn drain(&self, _caller: &Caller) -> Result<(), ConsoleError> {
        Ok(())
    }
}

#[test]
fn messages_keep_their_bytes() {
    let loopback = Loopback::new(ConsoleDispatcher::new(Rc::new(Fake)));
    let client = ConsoleClient::from_client(loopback.client());
    client.write(b"hello\n").unwrap();
    assert!(client.write(&[b'y'; 101]).is_err());
    assert_eq!(client.read(3).unwrap(), b"xxx");
    assert!(client.set_mode(InputMode::Raw).is_err());
    assert!(client.set_mode(InputMode::Line).is_err());
    let notification = Handle::<Notification>::from_raw(RawHandle(5));
    client.on_interrupt(&notification).unwrap();
    assert_eq!(client.new_session().unwrap().raw(), RawHandle(7));
    client.drain().unwrap();
    libipc::golden!(
        "console.txt",
        loopback,
        [
            "write",
            "write-too-long",
            "read",
            "set-mode-raw",
            "set-mode-line",
            "on-interrupt",
            "new-session",
            "drain",
        ]
    );
}

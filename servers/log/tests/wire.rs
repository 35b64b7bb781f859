//! The messages of the log interface look on the wire as they did before.

use std::rc::Rc;

use libipc::Caller;
use libipc::loopback::Loopback;
use libipc::proto::log::{Level, LogClient, LogDispatcher, LogError, LogLine, LogPage, LogServer};

struct Fake;

impl LogServer for Fake {
    async fn services(&self, _caller: &Caller) -> Result<Vec<String>, LogError> {
        Ok(vec!["kernel".into(), "vfs".into()])
    }

    async fn read(
        &self,
        _caller: &Caller,
        service: String,
        from: u64,
    ) -> Result<LogPage, LogError> {
        if service != "vfs" {
            return Err(LogError::NoSuchService);
        }
        let levels = [
            Level::Error,
            Level::Warn,
            Level::Info,
            Level::Debug,
            Level::Trace,
        ];
        let lines = levels.map(|level| LogLine {
            time_ns: 1_000_000,
            level,
            target: "vfs::mounts".into(),
            text: "mounted /".into(),
        });
        Ok(LogPage {
            lines: lines.into(),
            next: from + 5,
            lost: 2,
        })
    }
}

#[test]
fn messages_keep_their_bytes() {
    let loopback = Loopback::new(LogDispatcher::new(Rc::new(Fake)));
    let client = LogClient::from_client(loopback.client());
    assert_eq!(client.services().unwrap().len(), 2);
    assert_eq!(client.read("vfs", 300).unwrap().next, 305);
    assert!(client.read("nobody", 0).is_err());
    libipc::golden!(
        "log.txt",
        loopback,
        ["services", "read", "read-no-such-service"]
    );
}

//! Golden bytes: that messages look on the wire as they did before.
//!
//! A file holds one line `name request-label request reply-label reply` per exchange, in hex. To
//! make or change it run the test with `SKINK_BLESS=1` and look at the difference.

use alloc::string::String;
use core::fmt::Write as _;

use crate::loopback::Exchange;

/// Writes exchanges as the lines of a golden file.
pub fn lines(exchanges: &[(&str, Exchange)]) -> String {
    let mut text = String::new();
    for (name, exchange) in exchanges {
        let Exchange {
            label,
            request,
            status,
            reply,
        } = exchange;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{name} {label:08x} {} {status:x} {}",
            hex(request),
            hex(reply)
        );
    }
    text
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // As above.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Compares exchanges with the golden file `libipc/tests/golden/$file`; for use in tests.
///
/// ```ignore
/// let loopback = Loopback::new(BlockDispatcher::new(Rc::new(Fake)));
/// let client = BlockClient::from_client(loopback.client());
/// client.devices()?;
/// libipc::golden!("block.txt", loopback, ["devices"]);
/// ```
#[macro_export]
macro_rules! golden {
    ($file:literal, $loopback:expr, [$($name:literal),* $(,)?]) => {{
        let exchanges = $loopback.exchanges();
        let names = [$($name),*];
        assert_eq!(exchanges.len(), names.len(), "one name per call");
        let named: Vec<_> = names.into_iter().zip(exchanges).collect();
        let text = $crate::golden::lines(&named);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/", $file);
        if std::env::var_os("SKINK_BLESS").is_some() {
            std::fs::write(path, &text).expect("the golden file can be written");
        }
        let golden = std::fs::read_to_string(path).expect("the golden file exists");
        assert_eq!(golden, text, "{path} differs: a change of the wire needs a new version");
    }};
}

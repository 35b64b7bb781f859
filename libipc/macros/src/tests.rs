use proc_macro2::TokenStream;

use crate::expand;
use crate::parse::check_count;

fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap()
}

/// Expands an interface with this body.
fn body(methods: &str) -> Result<String, String> {
    expand(
        tokens("version = 1"),
        tokens(&format!("/// Doc.\npub trait Sample {{ {methods} }}")),
    )
    .map(|code| code.to_string())
    .map_err(|error| error.to_string())
}

#[track_caller]
fn refused(methods: &str, because: &str) {
    let error = body(methods).expect_err("must be refused");
    assert!(error.contains(because), "{error}");
}

#[test]
fn a_method_needs_exactly_one_contract() {
    refused(
        "fn go() -> Result<(), E>;",
        "method `go` needs a restart contract: put #[idempotent]",
    );
    refused(
        "#[idempotent] #[exactly_once] fn go() -> Result<(), E>;",
        "method `go` has two restart contracts",
    );
    for contract in ["idempotent", "exactly_once", "fails_on_restart"] {
        body(&format!("#[{contract}] fn go() -> Result<(), E>;")).unwrap();
    }
}

#[test]
fn streams_and_ring_methods_have_no_contract() {
    for contract in ["idempotent", "exactly_once", "fails_on_restart"] {
        refused(
            &format!("#[{contract}] #[stream] fn go() -> Result<Stream<u8, u32>, E>;"),
            "method `go` is a stream and has a restart contract: remove that",
        );
        refused(
            &format!("#[ring] #[{contract}] fn go() -> Result<(), E>;"),
            "method `go` is a ring method and has a restart contract: remove that",
        );
    }
    refused(
        "#[ring] #[stream] fn go() -> Result<(), E>;",
        "method `go` is a stream or a ring method: keep one attribute",
    );
}

/// Each mistake, what the compiler says to it (with the name of the method), and what to do.
#[test]
fn what_is_no_plain_method_is_refused() {
    const RESULT: &str = "method `go` must return `Result<T, E>`, E an error enum";
    const PLAIN: &str = "method `go` must be a plain `fn`: no async, unsafe or parameters";
    for (method, because) in [
        ("fn go();", RESULT),
        ("fn go() -> u32;", RESULT),
        ("fn go() -> Result<u32>;", RESULT),
        (
            "fn go(&self) -> Result<(), E>;",
            "`go` has no `self`: remove it",
        ),
        (
            "fn go(self) -> Result<(), E>;",
            "`go` has no `self`: remove it",
        ),
        ("async fn go() -> Result<(), E>;", PLAIN),
        ("unsafe fn go() -> Result<(), E>;", PLAIN),
        ("fn go<T>(t: T) -> Result<(), E>;", PLAIN),
        ("fn go<'a>(t: &'a T) -> Result<(), E>;", PLAIN),
        ("fn go() -> Result<(), E> where u8: Copy;", PLAIN),
        (
            "fn go() -> Result<(), E> { Ok(()) }",
            "method `go` of an interface has no body",
        ),
    ] {
        refused(&format!("#[idempotent] {method}"), because);
    }
    refused(
        "#[inline] #[idempotent] fn go() -> Result<(), E>;",
        "method `go` has an attribute that interfaces do not know: remove it",
    );
    refused("const A: u8;", "only methods");
}

#[test]
fn arguments_that_cannot_travel_are_refused() {
    for (method, because) in [
        (
            "fn go(a: &mut u8) -> Result<(), E>;",
            "`go`: argument `a` must be lent as plain `&T`",
        ),
        (
            "fn go((a, b): (u8, u8)) -> Result<(), E>;",
            "`go`: an argument needs a plain name",
        ),
        (
            "fn go(#[moved] a: u8) -> Result<(), E>;",
            "`go`: `a` is a value; only handles",
        ),
        (
            "fn go(#[other] a: u8) -> Result<(), E>;",
            "`go`: the only attribute here is `#[moved]`",
        ),
        (
            "fn go(a: f64) -> Result<(), E>;",
            "`go`: argument `a` cannot travel: messages have no",
        ),
        (
            "fn go(a: &f32) -> Result<(), E>;",
            "`go`: argument `a` cannot travel: messages have no",
        ),
        ("fn go(a: usize) -> Result<(), E>;", "say `u64` or `u32`"),
        (
            "fn go(a: *const u8) -> Result<(), E>;",
            "`go`: argument `a` cannot travel: an address",
        ),
        (
            "fn go(a: fn()) -> Result<(), E>;",
            "`go`: argument `a` cannot travel: code stays",
        ),
        (
            "fn go(a: impl Fn()) -> Result<(), E>;",
            "`go`: argument `a` cannot travel: code stays",
        ),
        (
            "fn go(a: &dyn Any) -> Result<(), E>;",
            "`go`: argument `a` cannot travel: code stays",
        ),
        (
            "fn go(a: _) -> Result<(), E>;",
            "`go`: argument `a` cannot travel: write its type out",
        ),
        (
            "fn go() -> Result<isize, E>;",
            "`go`: what it returns cannot travel",
        ),
    ] {
        refused(&format!("#[idempotent] {method}"), because);
    }
}

#[test]
fn more_than_a_message_holds_is_refused() {
    for (method, because) in [
        (
            "fn go(a: Handle<A>, b: Handle<A>, c: Handle<A>, d: Handle<A>, e: Option<Handle<A>>) \
             -> Result<(), E>;",
            "method `go` passes more than 4 handles in one message: pass them in several calls",
        ),
        (
            "fn go() -> Result<(Handle<A>, Handle<A>, Handle<A>, Handle<A>, Handle<A>), E>;",
            "method `go` passes more than 4 handles in one message: pass them in several calls",
        ),
    ] {
        refused(&format!("#[idempotent] {method}"), because);
    }
    let values: String = (0..17).map(|i| format!("a{i}: u8,")).collect();
    refused(
        &format!("#[idempotent] fn go({values}) -> Result<(), E>;"),
        "method `go` has more than 16 values: make a struct of them",
    );
}

/// What the compiler makes of it is a test of `libipc`.
#[test]
fn types_are_checked_under_the_name_of_their_method() {
    let code = body("#[idempotent] fn go(a: Thing, b: &[Part]) -> Result<(Made, u8), E>;").unwrap();
    for ty in [
        "Thing",
        ":: libipc :: alloc :: vec :: Vec < Part >",
        "Made",
        "u8",
        "E",
    ] {
        assert!(
            code.contains(&format!("travels :: < go , {ty} > ()")),
            "{ty}: {code}"
        );
    }
}

#[test]
fn what_cannot_be_a_stream_is_refused() {
    const RETURN: &str = "stream `go` must return `Result<Stream<T, C>, E>`, C its cursor";
    for (method, because) in [
        ("fn go() -> Result<(), E>;", RETURN),
        ("fn go() -> Result<Vec<u8>, E>;", RETURN),
        ("fn go() -> Result<(Stream<u8, u8>, u8), E>;", RETURN),
        ("fn go() -> Result<Stream<u8>, E>;", RETURN),
        (
            "fn go() -> Result<Stream<Handle<A>, u8>, E>;",
            "stream `go` cannot have handles as items: return them by a call",
        ),
        (
            "fn go(#[moved] a: Handle<A>) -> Result<Stream<u8, u8>, E>;",
            "stream `go`: `a` is wanted for each batch and cannot be moved: remove `#[moved]`",
        ),
        (
            "fn go(from: u8) -> Result<Stream<u8, u8>, E>;",
            "stream `go`: `from` is the name of its cursor: choose another",
        ),
    ] {
        refused(&format!("#[stream] {method}"), because);
    }
}

#[test]
fn what_cannot_be_in_a_ring_is_refused() {
    const WORD: &str = "ring method `go`: argument `a` must be a value of one word: register";
    for (method, because) in [
        ("fn go(a: Handle<A>) -> Result<(), E>;", WORD),
        ("fn go(a: &[u8]) -> Result<(), E>;", WORD),
        ("fn go(a: &str) -> Result<(), E>;", WORD),
        ("fn go(a: &u8) -> Result<(), E>;", WORD),
        (
            "fn go(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) -> Result<(), E>;",
            "ring method `go` has more than 5 arguments: an entry has no more words",
        ),
        (
            "fn go() -> Result<Handle<A>, E>;",
            "ring method `go` must return one word",
        ),
        (
            "fn go() -> Result<(u8, u8), E>;",
            "ring method `go` must return one word",
        ),
        (
            "async fn go() -> Result<(), E>;",
            "method `go` must be a plain `fn`",
        ),
        (
            "fn go(self) -> Result<(), E>;",
            "`go` has no `self`: remove it",
        ),
    ] {
        refused(&format!("#[ring] {method}"), because);
    }
    refused(
        "#[ring] fn go() -> Result<(), E>; #[ring] fn come() -> Result<u8, E>;",
        "ring method `come` does not return the same as ring method `go`",
    );
    let error = expand(
        tokens("version = 1, ring = Other"),
        tokens("pub trait Sample { #[ring] fn go() -> Result<(), E>; }"),
    );
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("remove `ring = …` or the #[ring] methods"),
        "{text}"
    );
}

#[test]
fn names_are_used_once_and_are_not_those_of_every_client() {
    let go = "#[idempotent] fn go() -> Result<(), E>;";
    for (other, because) in [
        (go, "method `go`: the name `go` is taken: choose another"),
        (
            "#[ring] fn go() -> Result<(), E>;",
            "method `go`: the name `go` is taken",
        ),
        (
            "#[stream] fn x() -> Result<Stream<u8, u8>, E>; \
             #[idempotent] fn x_batch() -> Result<(), E>;",
            "the name `x_batch` is taken",
        ),
        (
            "#[idempotent] fn connect() -> Result<(), E>;",
            "method `connect` has a name that every client has: choose another",
        ),
    ] {
        refused(&format!("{go} {other}"), because);
    }
}

#[test]
fn the_number_of_the_handshake_stays_free() {
    let count = |methods| check_count(&quote::format_ident!("Sample"), methods);
    assert!(count(0xffff).is_ok());
    assert_eq!(
        count(0x1_0000).unwrap_err().to_string(),
        "an interface has at most 65535 methods: number 0xffff is the handshake's; make two \
         interfaces of `Sample`"
    );
}

#[test]
fn the_version_must_be_given() {
    let item = "pub trait Sample {}";
    for (arguments, because) in [
        ("", "which version"),
        ("edition = 1", "only arguments are `version` and `ring`"),
        ("ring = Other", "which version"),
        ("version = 0", "start at 1"),
        ("version = \"1\"", "integer"),
    ] {
        let error = expand(tokens(arguments), tokens(item))
            .unwrap_err()
            .to_string();
        assert!(error.contains(because), "{arguments}: {error}");
    }
    for item in [
        "pub trait Sample<T> {}",
        "pub trait Sample: Clone {}",
        "pub struct Sample;",
    ] {
        assert!(
            expand(tokens("version = 1"), tokens(item)).is_err(),
            "{item}"
        );
    }
}

#[test]
fn the_schema_depends_on_types_and_contracts_but_not_on_docs_and_names() {
    let signature = |method: &str| {
        let code = body(method).unwrap();
        let start = code.find("& [\"").unwrap();
        code[start..].split(']').next().unwrap().to_owned()
    };
    let base = signature("#[idempotent] fn go(a: Vec<u8>) -> Result<(), E>;");
    let same = signature("/// Doc.\n#[idempotent] fn go(other: Vec < u8 >) -> Result<(), E>;");
    assert_eq!(base, same);
    for other in [
        "#[exactly_once] fn go(a: Vec<u8>) -> Result<(), E>;",
        "#[idempotent] fn went(a: Vec<u8>) -> Result<(), E>;",
        "#[idempotent] fn go(a: Vec<u16>) -> Result<(), E>;",
        "#[idempotent] fn go(a: Vec<u8>) -> Result<u8, E>;",
        "#[idempotent] fn go(a: Vec<u8>) -> Result<(), F>;",
        "#[idempotent] fn go(a: Vec<u8>, b: u8) -> Result<(), E>;",
        "#[stream] fn go(a: Vec<u8>) -> Result<Stream<u8, u8>, E>;",
    ] {
        assert_ne!(base, signature(other), "{other}");
    }
}

#[test]
fn docs_go_to_client_and_server() {
    let code = body("/// Goes far.\n#[idempotent] fn go() -> Result<(), E>;").unwrap();
    assert_eq!(code.matches("Goes far.").count(), 2);
    let code = body("/// Goes far.\n#[ring] fn go() -> Result<(), E>;").unwrap();
    assert_eq!(code.matches("Goes far.").count(), 1);
    let code = body("/// Goes far.\n#[stream] fn go() -> Result<Stream<u8, u8>, E>;").unwrap();
    // The iterator, its batch, and the server.
    assert_eq!(code.matches("Goes far.").count(), 3);
}

#[test]
fn an_interface_says_what_is_suspect_and_whether_it_is_compared() {
    let interface = |attributes: &str| {
        let item =
            format!("{attributes} pub trait Sample {{ #[idempotent] fn go() -> Result<(), E>; }}");
        let code = expand(tokens("version = 1"), tokens(&item));
        code.map(|code| code.to_string())
            .map_err(|error| error.to_string())
    };
    let plain = interface("").unwrap();
    let suspicious = interface("#[suspect(E::A | E::B(_))]").unwrap();
    assert!(!plain.contains("matches"));
    assert!(
        suspicious.contains("matches ! (__error , E :: A | E :: B (_))"),
        "{suspicious}"
    );
    assert!(!suspicious.contains("compared"));
    assert!(interface("#[compared]").unwrap().contains(". compared ()"));
    for (attributes, because) in [
        (
            "#[suspect(E::A)] #[suspect(E::B)]",
            "one #[suspect]: join the patterns",
        ),
        ("#[suspect]", "expected attribute arguments"),
        ("#[suspect(1 +)]", "unexpected token"),
        ("#[compared(E::A)]", "unexpected token"),
        ("#[inline]", "no attributes but #[compared] and #[suspect"),
    ] {
        let error = interface(attributes).unwrap_err();
        assert!(error.contains(because), "{attributes}: {error}");
    }
}

#[test]
fn promises_are_about_replies_of_calls() {
    body("#[idempotent] #[ensures(a::b)] fn go(x: u32) -> Result<u32, E>;").unwrap();
    body("#[ensures(a)] #[stream] fn go() -> Result<Stream<u8, u32>, E>;").unwrap();
    refused(
        "#[idempotent] #[ensures(a)] #[ensures(b)] fn go() -> Result<(), E>;",
        "method `go` has two #[ensures]",
    );
    refused(
        "#[ring] #[ensures(a)] fn go() -> Result<(), E>;",
        "ring method `go` cannot have #[ensures]",
    );
    refused(
        "#[ensures(a)] fn go() -> Result<(), E>;",
        "needs a restart contract",
    );
}

#[test]
fn seals_are_the_last_argument_of_a_call() {
    body("#[idempotent] #[sealed(a::b)] fn go(x: u32, seal: Seal) -> Result<u32, E>;").unwrap();
    for (method, because) in [
        (
            "#[idempotent] #[sealed(a)] fn go() -> Result<(), E>;",
            "its last argument must be the seal",
        ),
        (
            "#[idempotent] #[sealed(a)] fn go(x: &u32) -> Result<(), E>;",
            "its last argument must be the seal",
        ),
        (
            "#[idempotent] #[sealed(a)] #[sealed(b)] fn go(x: u32) -> Result<(), E>;",
            "method `go` has two #[sealed]",
        ),
        (
            "#[sealed(a)] #[stream] fn go(x: u32) -> Result<Stream<u8, u32>, E>;",
            "stream `go` cannot have #[sealed]",
        ),
        (
            "#[ring] #[sealed(a)] fn go(x: u32) -> Result<(), E>;",
            "ring method `go` cannot have #[ensures] or #[sealed]",
        ),
    ] {
        refused(method, because);
    }
}

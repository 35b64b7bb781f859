use proc_macro2::TokenStream;

use crate::expand;

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
fn methods_that_cannot_travel_are_refused() {
    let idempotent = |rest: &str| format!("#[idempotent] {rest}");
    for (method, because) in [
        ("fn go();", "must return `Result<T, E>`"),
        ("fn go() -> u32;", "must return `Result<T, E>`"),
        ("fn go() -> Result<u32>;", "must return `Result<T, E>`"),
        ("fn go(&self) -> Result<(), E>;", "has no `self`"),
        ("async fn go() -> Result<(), E>;", "must be a plain `fn`"),
        ("unsafe fn go() -> Result<(), E>;", "must be a plain `fn`"),
        ("fn go<T>(t: T) -> Result<(), E>;", "must be a plain `fn`"),
        ("fn go() -> Result<(), E> { Ok(()) }", "has no body"),
        ("fn go(a: &mut u8) -> Result<(), E>;", "lent as plain `&T`"),
        (
            "fn go((a, b): (u8, u8)) -> Result<(), E>;",
            "needs a plain name",
        ),
        ("fn go(#[moved] a: u8) -> Result<(), E>;", "only handles"),
        ("fn go(#[other] a: u8) -> Result<(), E>;", "`#[moved]`"),
        (
            "fn go(a: Handle<A>, b: Handle<A>, c: Handle<A>, d: Handle<A>, e: Option<Handle<A>>) \
             -> Result<(), E>;",
            "more than 4 handles",
        ),
        (
            "fn go() -> Result<(Handle<A>, Handle<A>, Handle<A>, Handle<A>, Handle<A>), E>;",
            "more than 4 handles",
        ),
    ] {
        refused(&idempotent(method), because);
    }
    refused(
        "#[inline] #[idempotent] fn go() -> Result<(), E>;",
        "attribute that interfaces",
    );
    refused("const A: u8;", "only methods");
}

#[test]
fn the_version_must_be_given() {
    let item = "pub trait Sample {}";
    for (arguments, because) in [
        ("", "which version"),
        ("edition = 1", "only argument is `version`"),
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
    ] {
        assert_ne!(base, signature(other), "{other}");
    }
}

#[test]
fn docs_go_to_client_and_server() {
    let code = body("/// Goes far.\n#[idempotent] fn go() -> Result<(), E>;").unwrap();
    assert_eq!(code.matches("Goes far.").count(), 2);
}

//! The interface macro: one trait gives the client, the server trait and its dispatcher.
//!
//! `parse` and `marker` read and check the trait, `generate` writes the code; `stream` and `ring` have what is
//! special about those methods, `describe` writes what tests want to know. What the code calls
//! lives in `libipc`; the macro itself decides nothing at run time.

mod ask;
mod describe;
mod generate;
mod marker;
mod parse;
mod ring;
mod stream;

use proc_macro::TokenStream;

/// Makes `XClient`, `XServer` and `XDispatcher` of `trait X`; see `libipc::interface`.
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

fn expand(
    arguments: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> syn::Result<proc_macro2::TokenStream> {
    let header = parse::header(arguments)?;
    let interface = parse::Interface::new(header, syn::parse2(item)?)?;
    Ok(generate::interface(&interface))
}

#[cfg(test)]
mod tests;

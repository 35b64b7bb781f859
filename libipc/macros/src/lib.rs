//! The interface macro: one trait gives the client, the server trait and its dispatcher.
//!
//! `parse` reads and checks the trait, `generate` writes the code. What the code calls lives in
//! `libipc`; the macro itself decides nothing at run time.

mod generate;
mod parse;

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
    let version = parse::version(arguments)?;
    let interface = parse::Interface::new(version, syn::parse2(item)?)?;
    Ok(generate::interface(&interface))
}

#[cfg(test)]
mod tests;

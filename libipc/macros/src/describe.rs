//! What tests want to know of an interface: the types of all its messages, and a server of it.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};

use crate::generate::{output_wire_type, schema_name, server_type, server_wire_type};
use crate::parse::{ArgumentKind, HandleType, Interface, Method, OutputPart};
use crate::ring;

/// Writes the description; it is compiled on the host only.
pub(crate) fn description(interface: &Interface) -> TokenStream {
    let (name, visibility) = (&interface.name, &interface.visibility);
    let holder = schema_name(interface);
    let mute = format_ident!("Mute{name}");
    let server = format_ident!("{name}Server");
    let dispatcher = format_ident!("{name}Dispatcher");
    let doc = format!("A server of `{name}` that never answers, for tests of what comes before.");
    let calls = interface.methods.iter().map(call);
    let entries = ring::entry_type(interface).map(|ty| quote! { __book.ring::<#ty>(); });
    let methods = interface.methods.iter().map(mute_method);
    quote! {
        #[doc = #doc]
        #[cfg(not(bare))]
        #[derive(Clone, Copy, Debug, Default)]
        #visibility struct #mute;

        #[cfg(not(bare))]
        #[allow(clippy::too_many_arguments, reason = "the interface has them")]
        impl #server for #mute {
            #(#methods)*
        }

        #[cfg(not(bare))]
        impl ::libipc::describe::Described for #holder {
            fn describe<__B: ::libipc::describe::Book>(__book: &mut __B) {
                #(#calls)*
                #entries
            }

            fn mute() -> ::libipc::alloc::boxed::Box<dyn ::libipc::server::Dispatch> {
                let server = ::libipc::alloc::rc::Rc::new(#mute);
                ::libipc::alloc::boxed::Box::new(#dispatcher::new(server))
            }
        }
    }
}

/// Writes what gives an error with the name of the method for each type that cannot travel.
pub(crate) fn checks(interface: &Interface) -> TokenStream {
    let methods = interface.methods.iter().map(|method| {
        let arguments = method
            .arguments
            .iter()
            .filter_map(|argument| server_wire_type(&argument.kind));
        let ok = method.ok.parts().iter().filter_map(output_wire_type);
        let error = &method.error;
        let types = arguments.chain(ok).chain([quote! { #error }]);
        let name = &method.name;
        let checks = types.map(|ty| {
            let span = ty
                .clone()
                .into_iter()
                .next()
                .map_or(name.span(), |token| token.span());
            quote_spanned! { span => travels::<#name, #ty>(); }
        });
        quote! {{
            #[allow(non_camel_case_types, reason = "it has the name of the method")]
            enum #name {}
            #(#checks)*
        }}
    });
    quote! {
        const _: fn() = || {
            fn travels<M, T: ::libipc::wire::Travels<M>>() {}
            #(#methods)*
        };
    }
}

/// Tells of one method.
fn call(method: &Method) -> TokenStream {
    let (name, signature, error) = (method.name.to_string(), &method.signature, &method.error);
    let arguments = method
        .arguments
        .iter()
        .filter_map(|argument| server_wire_type(&argument.kind));
    let ok = method.ok.parts().iter().filter_map(output_wire_type);
    let handles_in = method.arguments.iter().filter_map(|argument| {
        let ArgumentKind::Handle(handle) = &argument.kind else {
            return None;
        };
        Some(handle_shape(handle))
    });
    let handles_out = method.ok.parts().iter().filter_map(|part| match part {
        OutputPart::Handle(handle) => Some(handle_shape(handle)),
        _ => None,
    });
    quote! {
        __book.call::<(#(#arguments,)*), (#(#ok,)*), #error>(&::libipc::describe::Call {
            name: #name,
            signature: #signature,
            handles_in: &[#(#handles_in),*],
            handles_out: &[#(#handles_out),*],
        });
    }
}

fn handle_shape(handle: &HandleType) -> TokenStream {
    let HandleType {
        kind, is_optional, ..
    } = handle;
    quote! {
        ::libipc::describe::HandleShape {
            kind: <#kind as ::libipc::libsys::Kind>::KIND,
            is_optional: #is_optional,
        }
    }
}

fn mute_method(method: &Method) -> TokenStream {
    let (name, error) = (&method.name, &method.error);
    let types = method
        .arguments
        .iter()
        .map(|argument| server_type(&argument.kind));
    let ok = crate::generate::output_type(&method.ok);
    quote! {
        async fn #name(
            &self,
            _: &::libipc::Caller,
            #(_: #types),*
        ) -> ::core::result::Result<#ok, #error> {
            ::core::future::pending().await
        }
    }
}

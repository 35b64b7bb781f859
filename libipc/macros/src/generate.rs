//! Writes the code of an interface. Everything it calls is in `libipc`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::marker::Contract;
use crate::parse::{Argument, ArgumentKind, HandleType, Interface, Method, Output, OutputPart};
use crate::{ask, describe, ring, stream};

/// Writes all items of an interface.
pub(crate) fn interface(interface: &Interface) -> TokenStream {
    let schema = schema(interface);
    let client = client(interface);
    let server = server(interface);
    let dispatcher = dispatcher(interface);
    let entries = ring::entries(interface);
    let description = describe::description(interface);
    let checks = describe::checks(interface);
    // The checks come first: their errors say more than those of what comes behind.
    quote! { #checks #schema #client #server #dispatcher #entries #description }
}

pub(crate) fn schema_name(interface: &Interface) -> proc_macro2::Ident {
    format_ident!("{}Schema", interface.name)
}

/// The type that holds the schema.
fn schema(interface: &Interface) -> TokenStream {
    let (name, visibility, version) = (&interface.name, &interface.visibility, interface.version);
    let holder = schema_name(interface);
    let text = name.to_string();
    let doc = format!("The schema of [`{name}`].");
    let signatures = interface.methods.iter().map(|method| &method.signature);
    let methods = interface.methods.iter().map(|method| {
        let (text, contract) = (
            method.name.to_string(),
            format_ident!("{}", method.contract.variant()),
        );
        let is_stream = method.stream.is_some();
        let signature = &method.signature;
        let reads = reads(method);
        let handles = method.ok.parts().iter().filter_map(|part| match part {
            OutputPart::Handle(handle) => Some(u8::from(!handle.is_optional)),
            _ => None,
        });
        let least: u8 = handles.clone().sum();
        let most = handles.count() as u8;
        quote! {
            ::libipc::schema::Method {
                name: #text,
                contract: ::libipc::schema::Contract::#contract,
                is_stream: #is_stream,
                digest: ::libipc::schema::signature_digest(#signature),
                reads: #reads,
                handles: (#least, #most),
            }
        }
    });
    let ring = ring::entry_type(interface).map(|ty| {
        quote! { .with_ring(<#ty as ::libipc::typed_ring::RingRequest>::RING) }
    });
    let compared = interface.is_compared.then(|| quote! { .compared() });
    quote! {
        #[doc = #doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #visibility enum #holder {}

        impl ::libipc::Interface for #holder {
            const SCHEMA: &'static ::libipc::schema::Schema =
                &::libipc::schema::Schema::new(
                    #text,
                    #version,
                    &[#(#signatures),*],
                    &[#(#methods),*],
                )#compared #ring;
        }
    }
}

/// What tells whether a reply can be read, for methods that are not simply asked again if it cannot.
fn reads(method: &Method) -> TokenStream {
    if method.contract == Contract::Idempotent {
        return quote! { None };
    }
    let (wire_types, error) = (
        method.ok.parts().iter().filter_map(output_wire_type),
        &method.error,
    );
    quote! { Some(::libipc::wire::is_reply::<(#(#wire_types,)*), #error>) }
}

fn client(interface: &Interface) -> TokenStream {
    let (name, visibility) = (&interface.name, &interface.visibility);
    let client = format_ident!("{name}Client");
    let holder = schema_name(interface);
    let doc = format!("Calls a server of [`{name}`].");
    let methods = (0_u16..)
        .zip(&interface.methods)
        .map(|(i, method)| client_method(i, method));
    let docs = &interface.docs;
    quote! {
        #[doc = #doc]
        #[doc = ""]
        #(#docs)*
        #[derive(Clone, Debug)]
        #visibility struct #client {
            client: ::libipc::client::Client,
        }

        #[allow(clippy::too_many_arguments, reason = "the interface has them")]
        impl #client {
            /// Connects: both sides compare their schemas.
            ///
            /// # Errors
            ///
            /// `Mismatch` names both versions; `NotServed` when the sender leads to a server of
            /// something else; else why the handshake failed.
            #visibility fn connect(
                sender: ::libipc::libsys::Handle<::libipc::libsys::Sender>,
            ) -> ::core::result::Result<Self, ::libipc::ConnectError> {
                let client = ::libipc::client::Client::new(sender);
                client.handshake(<#holder as ::libipc::Interface>::SCHEMA)?;
                Ok(Self { client })
            }

            /// Takes a sender of which is known that it leads to this version of the interface.
            #visibility fn new_unchecked(
                sender: ::libipc::libsys::Handle<::libipc::libsys::Sender>,
            ) -> Self {
                Self { client: ::libipc::client::Client::new(sender) }
            }

            /// Takes an untyped client, such as one of a `libipc::loopback`.
            #visibility fn from_client(client: ::libipc::client::Client) -> Self {
                Self { client }
            }

            /// Returns a client whose calls give up after `ns` nanoseconds. Such a call may
            /// still take effect.
            #[must_use]
            #visibility fn with_deadline(&self, ns: u64) -> Self {
                Self { client: self.client.with_deadline(ns) }
            }

            /// Returns the untyped client, for its sender.
            #visibility fn client(&self) -> &::libipc::client::Client {
                &self.client
            }

            #(#methods)*
        }
    }
}

/// The method of the client.
fn client_method(index: u16, method: &Method) -> TokenStream {
    let Method { docs, error, .. } = method;
    let name = method.call_name();
    let parameters = method.client_arguments().iter().map(client_parameter);
    let ok = output_type(&method.ok);
    let contract = contract_doc(method);
    let seal = ask::seal(method);
    let body = ask::client_body(index, method);
    let iterator = stream::iterator(method);
    quote! {
        #iterator

        #(#docs)*
        #[doc = ""]
        #[doc = #contract]
        pub fn #name(
            &self,
            #(#parameters),*
        ) -> ::core::result::Result<#ok, ::libipc::Failure<#error>> {
            #seal
            #body
        }
    }
}

/// An argument as the client's method takes it.
pub(crate) fn client_parameter(argument: &Argument) -> TokenStream {
    let name = &argument.name;
    let ty = match &argument.kind {
        ArgumentKind::Owned(ty) => quote! { #ty },
        ArgumentKind::Borrowed(ty) => quote! { &#ty },
        ArgumentKind::Text => quote! { &str },
        ArgumentKind::Bytes => quote! { &[u8] },
        ArgumentKind::Slice(ty) => quote! { &[#ty] },
        ArgumentKind::Handle(handle) => {
            let HandleType {
                handle,
                is_optional,
                is_moved,
                ..
            } = &**handle;
            match (is_optional, is_moved) {
                (false, false) => quote! { &#handle },
                (false, true) => quote! { #handle },
                (true, false) => quote! { ::core::option::Option<&#handle> },
                (true, true) => quote! { ::core::option::Option<#handle> },
            }
        }
    };
    quote! { #name: #ty }
}

/// What of an argument goes into the payload; must agree with [`server_wire_type`].
pub(crate) fn client_value(argument: &Argument) -> Option<TokenStream> {
    let name = &argument.name;
    match &argument.kind {
        ArgumentKind::Bytes => Some(quote! { ::libipc::wire::Bytes(#name) }),
        ArgumentKind::Handle(handle) if !handle.is_optional => None,
        // Lent, not given away: it is wanted again to look at the reply.
        ArgumentKind::Owned(_) => Some(quote! { &#name }),
        _ => Some(quote! { #name }),
    }
}

/// How a handle argument is put into the message.
pub(crate) fn client_handle(argument: &Argument) -> Option<TokenStream> {
    match &argument.kind {
        ArgumentKind::Handle(handle) => Some(put_handle(&argument.name, handle)),
        _ => None,
    }
}

/// Puts the handle in the variable `name` into a message. An optional one leaves there whether
/// it was present.
fn put_handle(name: &proc_macro2::Ident, handle: &HandleType) -> TokenStream {
    let put = if handle.is_moved {
        quote! { pass }
    } else {
        quote! { copy }
    };
    if !handle.is_optional {
        return quote! { __out.#put(#name); };
    }
    quote! {
        let #name = match #name {
            ::core::option::Option::Some(__handle) => {
                __out.#put(__handle);
                true
            }
            ::core::option::Option::None => false,
        };
    }
}

fn server(interface: &Interface) -> TokenStream {
    let (name, visibility, docs) = (&interface.name, &interface.visibility, &interface.docs);
    let server = format_ident!("{name}Server");
    let client = format_ident!("{name}Client");
    let holder = schema_name(interface);
    let doc = format!("What a server of `{name}` does; its methods may be written as `async fn`.");
    let methods = interface.methods.iter().map(|method| {
        let Method {
            name, docs, error, ..
        } = method;
        let ok = output_type(&method.ok);
        let contract = contract_doc(method);
        let parameters = method.arguments.iter().map(|argument| {
            let (name, ty) = (&argument.name, server_type(&argument.kind));
            quote! { #name: #ty }
        });
        quote! {
            #(#docs)*
            #[doc = ""]
            #[doc = #contract]
            fn #name(
                &self,
                caller: &::libipc::Caller,
                #(#parameters),*
            ) -> impl ::core::future::Future<Output = ::core::result::Result<#ok, #error>>;
        }
    });
    quote! {
        #(#docs)*
        #[doc = ""]
        #[doc = #doc]
        #[allow(clippy::too_many_arguments, reason = "the interface has them")]
        #visibility trait #server {
            #(#methods)*
        }

        #[doc(no_inline)]
        #[allow(unused_imports, reason = "the short name is for documentation")]
        #visibility use self::#server as #name;

        impl ::libipc::client::Typed for #client {
            type Interface = #holder;
        }
    }
}

fn dispatcher(interface: &Interface) -> TokenStream {
    let (name, visibility) = (&interface.name, &interface.visibility);
    let dispatcher = format_ident!("{name}Dispatcher");
    let server = format_ident!("{name}Server");
    let holder = schema_name(interface);
    let doc = format!("Decodes requests of [`{name}`] and hands them to a [`{server}`].");
    let arms = (0_u16..)
        .zip(&interface.methods)
        .map(|(i, method)| arm(i, method, interface));
    quote! {
        #[doc = #doc]
        #[derive(Debug)]
        #visibility struct #dispatcher<S> {
            server: ::libipc::alloc::rc::Rc<S>,
        }

        impl<S: #server + 'static> #dispatcher<S> {
            /// Makes a dispatcher for this server.
            #visibility fn new(server: ::libipc::alloc::rc::Rc<S>) -> Self {
                Self { server }
            }
        }

        impl<S: #server + 'static> ::libipc::server::Dispatch for #dispatcher<S> {
            fn schema(&self) -> &'static ::libipc::schema::Schema {
                <#holder as ::libipc::Interface>::SCHEMA
            }

            fn start(
                &self,
                __method: u16,
                __request: ::libipc::server::Arguments<'_>,
                __context: &mut ::core::task::Context<'_>,
            ) -> ::core::result::Result<::libipc::server::Started, ::libipc::wire::Status> {
                let ::libipc::server::Arguments {
                    payload: __payload,
                    handles: __in,
                    caller: __caller,
                    output: __output,
                    places: __places,
                } = __request;
                match __method {
                    #(#arms)*
                    _ => Err(::libipc::wire::Status::UnknownMethod),
                }
            }
        }
    }
}

/// The arm of the dispatcher for one method.
fn arm(index: u16, method: &Method, interface: &Interface) -> TokenStream {
    let name = &method.name;
    let text = name.to_string();
    let holder = schema_name(interface);
    let judge = interface.suspect.as_ref().map(|pattern| {
        quote! {
            if ::core::matches!(__error, #pattern) {
                __output.suspect(&__caller, #text);
            }
        }
    });
    let names: Vec<_> = method
        .arguments
        .iter()
        .map(|argument| &argument.name)
        .collect();
    let (patterns, types): (Vec<_>, Vec<_>) = method
        .arguments
        .iter()
        .filter_map(|argument| Some((&argument.name, server_wire_type(&argument.kind)?)))
        .unzip();
    let converts = method.arguments.iter().filter_map(|argument| {
        let name = &argument.name;
        match &argument.kind {
            ArgumentKind::Bytes => Some(quote! { let #name = #name.0; }),
            ArgumentKind::Handle(handle) => Some(take_handle(name, handle)),
            _ => None,
        }
    });
    let (pattern, ok) = reply(method, &holder);
    quote! {
        #index => {
            let (#(#patterns,)*): (#(#types,)*) = __payload.decode()?;
            #(#converts)*
            // Never dropped: the server lives as long as its process. A count that is wrong would take it
            // apart, and close handles that the next instance needs.
            let __server = ::libipc::alloc::rc::Rc::clone(&self.server);
            let __server = ::core::mem::ManuallyDrop::new(__server);
            let __output = ::core::clone::Clone::clone(__output);
            let __begun = __places.begin(
                async move {
                    match __server.#name(&__caller, #(#names),*).await {
                        Ok(#pattern) => #ok,
                        Err(__error) => {
                            #judge
                            __output.error::<#holder, _>(&__error)
                        }
                    }
                },
                __context,
            );
            Ok(match __begun {
                Ok(__answer) => ::libipc::server::Started::Done(__answer),
                Err(__future) => ::libipc::server::Started::Waits(__future),
            })
        }
    }
}

/// The Ok value of a method as a pattern, and what writes it as the reply.
fn reply(method: &Method, holder: &proc_macro2::Ident) -> (TokenStream, TokenStream) {
    let pattern = output_expression(&method.ok, |name, _| quote! { #name });
    let handles: Vec<_> = output_names(&method.ok)
        .zip(method.ok.parts())
        .filter_map(|(name, part)| match part {
            OutputPart::Handle(handle) => Some(put_handle(&name, handle)),
            _ => None,
        })
        .collect();
    let values = output_names(&method.ok)
        .zip(method.ok.parts())
        .filter_map(|(name, part)| match part {
            OutputPart::Handle(handle) if !handle.is_optional => None,
            OutputPart::Bytes(_) => Some(quote! { ::libipc::wire::Bytes(&#name) }),
            _ => Some(quote! { #name }),
        });
    let values = quote! { &(#(#values,)*) };
    let ok = if handles.is_empty() {
        quote! { __output.ok::<#holder, _>(#values) }
    } else {
        quote! {
            {
                let mut __out = ::libipc::wire::OutHandles::new();
                #(#handles)*
                __output.ok_with_handles::<#holder, _>(#values, __out)
            }
        }
    };
    (pattern, ok)
}

/// The type of an argument as the server gets it.
pub(crate) fn server_type(kind: &ArgumentKind) -> TokenStream {
    match kind {
        ArgumentKind::Owned(ty) | ArgumentKind::Borrowed(ty) => quote! { #ty },
        ArgumentKind::Text => quote! { ::libipc::alloc::string::String },
        ArgumentKind::Bytes => quote! { ::libipc::alloc::vec::Vec<u8> },
        ArgumentKind::Slice(ty) => quote! { ::libipc::alloc::vec::Vec<#ty> },
        ArgumentKind::Handle(handle) => handle_type(handle),
    }
}

/// The type of an argument in the payload; must agree with [`client_value`].
pub(crate) fn server_wire_type(kind: &ArgumentKind) -> Option<TokenStream> {
    match kind {
        ArgumentKind::Bytes => Some(quote! { ::libipc::wire::ByteVec }),
        ArgumentKind::Handle(handle) => handle.is_optional.then(|| quote! { bool }),
        other => Some(server_type(other)),
    }
}

/// Takes the next handle of a message into `name`; an optional one is there if `name` is true.
pub(crate) fn take_handle(name: &proc_macro2::Ident, handle: &HandleType) -> TokenStream {
    let kind = &handle.kind;
    if handle.is_optional {
        quote! {
            let #name =
                if #name { ::core::option::Option::Some(__in.take::<#kind>()?) } else { None };
        }
    } else {
        quote! { let #name = __in.take::<#kind>()?; }
    }
}

fn handle_type(handle: &HandleType) -> TokenStream {
    let HandleType {
        handle,
        is_optional,
        ..
    } = handle;
    if *is_optional {
        quote! { ::core::option::Option<#handle> }
    } else {
        quote! { #handle }
    }
}

/// Names for the parts of what a method returns.
pub(crate) fn output_names(output: &Output) -> impl Iterator<Item = proc_macro2::Ident> {
    (0..output.parts().len()).map(|i| format_ident!("__part{i}"))
}

/// The Ok type of a method.
pub(crate) fn output_type(output: &Output) -> TokenStream {
    let types = output.parts().iter().map(|part| match part {
        OutputPart::Value(ty) | OutputPart::Bytes(ty) => quote! { #ty },
        OutputPart::Handle(handle) => handle_type(handle),
    });
    match output {
        Output::Single(_) => quote! { #(#types)* },
        Output::Tuple(_) => quote! { (#(#types,)*) },
    }
}

/// The type of a part in the payload of the reply.
pub(crate) fn output_wire_type(part: &OutputPart) -> Option<TokenStream> {
    match part {
        OutputPart::Value(ty) => Some(quote! { #ty }),
        OutputPart::Bytes(_) => Some(quote! { ::libipc::wire::ByteVec }),
        OutputPart::Handle(handle) => handle.is_optional.then(|| quote! { bool }),
    }
}

/// Puts the parts together as the Ok value: an expression or a pattern.
pub(crate) fn output_expression(
    output: &Output,
    part: impl Fn(&proc_macro2::Ident, &OutputPart) -> TokenStream,
) -> TokenStream {
    let parts = output_names(output)
        .zip(output.parts())
        .map(|(name, kind)| part(&name, kind));
    match output {
        Output::Single(_) => quote! { #(#parts)* },
        Output::Tuple(_) => quote! { (#(#parts,)*) },
    }
}

fn contract_doc(method: &Method) -> String {
    if method.stream.is_some() {
        return "Returns the batch of the stream at a cursor; the default one is its start.".into();
    }
    let what = match method.contract {
        crate::marker::Contract::Idempotent => "a redelivered request is run again",
        crate::marker::Contract::ExactlyOnce => {
            "a redelivered request that had completed gets its stored reply"
        }
        crate::marker::Contract::FailsOnRestart => {
            "fails with `Failure::Restarted` when its server dies"
        }
    };
    format!(
        "Restart contract `{}`: {what}.",
        method.contract.attribute()
    )
}

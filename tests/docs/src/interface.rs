//! Reads the source of an interface (`libipc/src/proto/*.rs`) as text and writes the generated
//! part of its reference page: methods, errors, types, limits.
//!
//! The sources are formatted by rustfmt, which is what makes reading them line by line reliable.
//! The tests compare what is found here with the compiled schema, so nothing is overlooked.

use std::fmt::Write as _;

/// Where the generated part of a page starts.
pub const BEGIN: &str = "<!-- generated: from here -->";
/// Where it ends.
pub const END: &str = "<!-- generated: to here -->";

/// Attributes of methods.
const MARKERS: [&str; 5] = [
    "idempotent",
    "exactly_once",
    "fails_on_restart",
    "stream",
    RING,
];
/// The attribute of a method that is an entry of a ring.
const RING: &str = "ring";

/// A documented thing: a type, a variant, a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name, for a constant with its value.
    pub name: String,
    /// Its documentation as Markdown, in one line.
    pub docs: String,
}

/// A method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// Its attribute: the restart contract, or that it is a stream or in the ring.
    pub marker: String,
    /// Its signature in one line.
    pub signature: String,
    /// Its documentation as Markdown.
    pub docs: String,
}

/// What an interface's source says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Version of the interface.
    pub version: String,
    /// Name of the trait.
    pub name: String,
    /// Its methods in order.
    pub methods: Vec<Method>,
    /// Its ring methods in order.
    pub ring: Vec<Method>,
    /// Name of the interface whose ring methods it has, if they are of another one.
    pub ring_of: Option<String>,
    /// Error enums with their variants.
    pub errors: Vec<(Item, Vec<Item>)>,
    /// Other public types.
    pub types: Vec<Item>,
    /// Public constants.
    pub limits: Vec<Item>,
}

/// Reads a source.
#[must_use]
pub fn parse(text: &str) -> Source {
    let mut source = Source::default();
    let mut lines = text.lines();
    let mut docs = Docs::default();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            break;
        } else if let Some(rest) = line.strip_prefix("#[crate::interface(version = ") {
            let arguments = rest.trim_end_matches(")]");
            let (version, ring) = arguments.split_once(", ring = ").unwrap_or((arguments, ""));
            source.version = version.to_owned();
            source.ring_of = ring.strip_suffix("Entry").map(str::to_owned);
        } else if let Some(rest) = line.strip_prefix("pub trait ") {
            source.name = rest.trim_end_matches(" {").to_owned();
            docs.take();
            let is_in_ring = |method: &Method| method.marker == RING;
            (source.ring, source.methods) = methods(&mut lines).into_iter().partition(is_in_ring);
        } else if let Some(rest) = line.strip_prefix("pub enum ") {
            let item = Item {
                name: first_word(rest),
                docs: docs.take(),
            };
            if item.name.ends_with("Error") {
                source.errors.push((item, variants(&mut lines)));
            } else {
                source.types.push(item);
            }
        } else if let Some(rest) = line.strip_prefix("pub struct ") {
            source.types.push(Item {
                name: first_word(rest),
                docs: docs.take(),
            });
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            source.limits.extend(constant(rest, docs.take()));
        } else {
            docs.read(line);
        }
    }
    source
}

/// Documentation that waits for its item.
#[derive(Default)]
struct Docs(String);

impl Docs {
    fn read(&mut self, line: &str) {
        match line.trim_start().strip_prefix("///") {
            Some("") => self.0.push_str("<br>"),
            Some(text) => {
                if !self.0.is_empty() && !self.0.ends_with("<br>") {
                    self.0.push(' ');
                }
                self.0.push_str(text.trim_start());
            }
            // Attributes stand between documentation and item.
            None if line.trim_start().starts_with("#[") || line.ends_with(")]") => {}
            None if line.trim_start().starts_with("Clone,") => {}
            None => self.0.clear(),
        }
    }

    fn take(&mut self) -> String {
        plain_links(&std::mem::take(&mut self.0))
    }
}

/// Turns links between Rust items into plain code: they lead nowhere on a page.
fn plain_links(docs: &str) -> String {
    let mut text = String::new();
    let mut rest = docs;
    while let Some((before, after)) = rest.split_once("[`") {
        text.push_str(before);
        let Some((name, behind)) = after.split_once("`]") else {
            text.push_str("[`");
            rest = after;
            continue;
        };
        let _ = write!(text, "`{name}`");
        rest = match behind
            .strip_prefix('(')
            .and_then(|link| link.split_once(')'))
        {
            Some((_, behind)) => behind,
            None => behind,
        };
    }
    text.push_str(rest);
    text.replace('|', "\\|")
}

fn first_word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn constant(text: &str, docs: String) -> Option<Item> {
    let (name, rest) = text.split_once(": ")?;
    let (_, value) = rest.split_once(" = ")?;
    Some(Item {
        name: format!("{name} = {}", value.trim_end_matches(';')),
        docs,
    })
}

fn variants<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<Item> {
    let mut found = Vec::new();
    let mut docs = Docs::default();
    for line in lines.take_while(|line| *line != "}") {
        let is_variant =
            line.starts_with("    ") && line[4..].starts_with(|c: char| c.is_ascii_uppercase());
        if is_variant {
            found.push(Item {
                name: first_word(line.trim_start()),
                docs: docs.take(),
            });
        } else {
            docs.read(line);
        }
    }
    found
}

fn methods<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<Method> {
    let mut found = Vec::new();
    let mut docs = Docs::default();
    let mut marker = String::new();
    while let Some(line) = lines.next().filter(|line| *line != "}") {
        let trimmed = line.trim_start();
        let attribute = trimmed
            .strip_prefix("#[")
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(name) = attribute.filter(|name| MARKERS.contains(name)) {
            marker = name.to_owned();
        } else if let Some(rest) = trimmed.strip_prefix("fn ") {
            let mut signature = trimmed.to_owned();
            while !signature.ends_with(';') {
                let Some(more) = lines.next() else { break };
                signature.push(' ');
                signature.push_str(more.trim());
            }
            found.push(Method {
                name: first_word(rest),
                marker: std::mem::take(&mut marker),
                signature: tidy(&signature),
                docs: docs.take(),
            });
        } else {
            docs.read(line);
        }
    }
    found
}

/// Undoes the line breaks that rustfmt made in a signature.
fn tidy(signature: &str) -> String {
    signature
        .trim_end_matches(';')
        .replace("( ", "(")
        .replace(", )", ")")
        .replace(" )", ")")
        .replace("< ", "<")
        .replace(", >", ">")
}

/// Writes the generated part of a page, without its marks.
#[must_use]
pub fn markdown(source: &Source) -> String {
    let mut page = String::from("## Methods\n");
    for method in &source.methods {
        write_method(&mut page, method);
        if method.marker == "stream" {
            page.push_str("\nA [stream](README.md#streams).\n");
        }
    }
    write_ring(&mut page, source);
    for (error, variants) in &source.errors {
        let _ = write!(page, "\n## Errors: `{}`\n\n{}\n\n", error.name, error.docs);
        page.push_str("| error | cause and remedy |\n|---|---|\n");
        rows(&mut page, variants);
    }
    if !source.types.is_empty() {
        page.push_str("\n## Types\n\n| type | what it is |\n|---|---|\n");
        rows(&mut page, &source.types);
    }
    if !source.limits.is_empty() {
        page.push_str("\n## Constants\n\n| constant | meaning |\n|---|---|\n");
        rows(&mut page, &source.limits);
    }
    page
}

fn write_method(page: &mut String, method: &Method) {
    let Method {
        name,
        marker,
        signature,
        docs,
    } = method;
    let docs = docs.replace("<br>", "\n\n");
    let _ = write!(
        page,
        "\n### `{name}`\n\n```rust\n#[{marker}]\n{signature}\n```\n\n{docs}\n"
    );
}

/// Writes the ring methods, each with what is where in its entry.
fn write_ring(page: &mut String, source: &Source) {
    if let Some(other) = &source.ring_of {
        let file = other.to_lowercase();
        let _ = write!(
            page,
            "\n## Ring methods\n\nThose of [`{other}`]({file}.md#ring-methods).\n"
        );
    }
    if source.ring.is_empty() {
        return;
    }
    page.push_str("\n## Ring methods\n\nEntries of the [ring](README.md#rings).\n");
    for (opcode, method) in (1..).zip(&source.ring) {
        write_method(page, method);
        let _ = write!(page, "\nIn the entry: opcode {opcode}");
        for (place, name) in argument_names(&method.signature).enumerate() {
            let _ = write!(page, ", `arguments[{place}]` is `{name}`");
        }
        page.push_str("; the rest is 0.\n");
    }
}

/// Returns the names of a method's arguments.
fn argument_names(signature: &str) -> impl Iterator<Item = &str> {
    let (_, rest) = signature.split_once('(').unwrap_or_default();
    let (arguments, _) = rest.split_once(") ->").unwrap_or_default();
    arguments
        .split(", ")
        .filter_map(|argument| Some(argument.split_once(": ")?.0))
}

fn rows(page: &mut String, items: &[Item]) {
    for Item { name, docs } in items {
        let _ = writeln!(page, "| `{name}` | {docs} |");
    }
}

/// Puts the generated part between its marks in a page; `None` if they are not there.
#[must_use]
pub fn insert(page: &str, generated: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{generated}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{insert, markdown, parse};

    const SOURCE: &str = "\
/// Most of it.
pub const MOST: usize = 3;

/// Why not.
#[derive(Clone)]
pub enum DoorError {
    /// It is shut. Remedy: see [`Door::open`].
    Shut,
    /// Broken, by this.
    Broken(u8),
}

/// A door.
#[crate::interface(version = 2)]
pub trait Door {
    /// Opens it.
    ///
    /// Slowly.
    #[exactly_once]
    fn open(
        width: u32,
        key: &str,
    ) -> Result<(), DoorError>;

    /// Who went through.
    #[stream]
    fn visitors() -> Result<Stream<u32, u64>, DoorError>;

    /// Knocks.
    #[ring]
    fn knock(times: u8, force: u32) -> Result<(), DoorError>;
}
";

    #[test]
    fn a_source_is_read() {
        let source = parse(SOURCE);
        assert_eq!(
            (source.name.as_str(), source.version.as_str()),
            ("Door", "2")
        );
        assert_eq!(source.methods[0].marker, "exactly_once");
        assert_eq!(source.methods[1].marker, "stream");
        assert_eq!(source.ring[0].name, "knock");
        assert_eq!(
            source.methods[0].signature,
            "fn open(width: u32, key: &str) -> Result<(), DoorError>"
        );
        assert_eq!(source.methods[0].docs, "Opens it.<br>Slowly.");
        let variants = &source.errors[0].1;
        assert_eq!(variants[0].docs, "It is shut. Remedy: see `Door::open`.");
        assert_eq!(variants[1].name, "Broken");
        assert_eq!(source.limits[0].name, "MOST = 3");
    }

    #[test]
    fn streams_and_ring_methods_are_on_the_page() {
        let page = markdown(&parse(SOURCE));
        assert!(page.contains("### `visitors`") && page.contains("A [stream](README.md#streams)."));
        let ring = page.split("## Ring methods").nth(1).expect("a ring");
        assert!(ring.contains("### `knock`") && ring.contains("Knocks."));
        assert!(ring.contains(
            "opcode 1, `arguments[0]` is `times`, `arguments[1]` is `force`; the rest is 0."
        ));
        let other = SOURCE.replace("version = 2", "version = 2, ring = GateEntry");
        let source = parse(&other);
        assert_eq!(source.version, "2");
        assert!(markdown(&source).contains("Those of [`Gate`](gate.md#ring-methods)."));
    }

    #[test]
    fn the_generated_part_is_replaced_and_nothing_else() {
        let generated = markdown(&parse(SOURCE));
        let page = "# Door\n<!-- generated: from here -->\nold\n<!-- generated: to here -->\nend\n";
        let page = insert(page, &generated).expect("the marks are there");
        assert!(page.starts_with("# Door\n") && page.ends_with("\nend\n"));
        assert!(page.contains("### `open`") && !page.contains("old"));
        assert_eq!(insert(&page, &generated).as_deref(), Some(page.as_str()));
        assert_eq!(insert("no marks", &generated), None);
    }
}

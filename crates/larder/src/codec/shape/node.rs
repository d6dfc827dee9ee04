//! What the runs have learned of a type so far: a tree of the places in the type.

/// A place in a type: a field, an item, or the whole type.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Which sample the type is offered for this place when the run is about another place. The type has refused the samples before it.
    pub(super) attempt: usize,
}

/// What a place holds.
#[derive(Debug, Default)]
pub(super) enum Kind {
    /// No run has reached the place yet.
    #[default]
    Unknown,
    /// No run can reach the place.
    OutOfSight,
    /// A value without parts: how it is written in the shape, and how many samples of it there are.
    Leaf(&'static str, usize),
    /// A unit variant, which holds nothing.
    Bare,
    /// A text that must be one of these names.
    Names(&'static [&'static str]),
    /// The same type as the place so many levels up.
    Again(usize),
    Option(Box<Node>),
    List(Box<Node>),
    Map(Box<(Node, Node)>),
    /// The items, and how many there are. If there are too many, one item stands for all.
    Tuple(Vec<Node>, usize),
    Struct(Vec<Named>),
    Enum(Vec<Named>),
    /// A map whose fields the type has not announced; without fields, any value.
    Open {
        fields: Vec<Named>,
        search: Search,
    },
    /// An open map whose fields depend on the value of one of them. Each variant is [`Open`](Self::Open).
    Tagged {
        tag: &'static str,
        variants: Vec<Named>,
    },
}

/// The search for the fields of an open map. The type is offered the known fields, and says which other field is missing, until no
/// field is missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Search {
    On,
    /// In this run the type was offered all known fields.
    Asked,
    Over,
}

/// A field or a variant.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: &'static str,
    pub(super) node: Node,
}

/// serde itself knows no longer tuples and arrays than this.
const LONGEST_TUPLE: usize = 32;

/// What is offered to a type that asks for any value, by [`Node::attempt`]. This is also the text for a type that has taken it.
pub(super) const ANYTHING: [&str; 6] = ["any", "~bool", "~number", "~text", "~list", "~map"];

impl Kind {
    /// A map with these fields, and perhaps more.
    pub(super) fn open(names: &[&'static str]) -> Self {
        Self::Open { fields: Self::named(names), search: Search::On }
    }

    /// A tuple or an array.
    pub(super) fn tuple(length: usize) -> Self {
        let items = if length > LONGEST_TUPLE { 1 } else { length };
        Self::Tuple((0..items).map(|_| Node::default()).collect(), length)
    }

    /// Fields or variants with these names.
    pub(super) fn named(names: &[&'static str]) -> Vec<Named> {
        names.iter().map(|name| Named { name, node: Node::default() }).collect()
    }
}

impl Node {
    /// Whether there is nothing more to learn about this place.
    pub(super) fn done(&self) -> bool {
        let all = |named: &[Named]| named.iter().all(|named| named.node.done());
        match &self.kind {
            Kind::Unknown => false,
            Kind::OutOfSight | Kind::Leaf(..) | Kind::Bare | Kind::Names(_) | Kind::Again(_) => true,
            Kind::Option(node) | Kind::List(node) => node.done(),
            Kind::Map(pair) => pair.0.done() && pair.1.done(),
            Kind::Tuple(items, _) => items.iter().all(Self::done),
            Kind::Struct(named) | Kind::Enum(named) | Kind::Tagged { variants: named, .. } => all(named),
            Kind::Open { fields, search } => *search == Search::Over && all(fields),
        }
    }

    /// Whether no run has reached this place.
    pub(super) fn unknown(&self) -> bool {
        matches!(self.kind, Kind::Unknown)
    }

    /// Whether the type asks for any value here.
    pub(super) fn anything(&self) -> bool {
        matches!(&self.kind, Kind::Open { fields, .. } if fields.is_empty())
    }

    /// How many samples there are for this place: different values, or different ways through its parts.
    pub(super) fn samples(&self) -> usize {
        match &self.kind {
            Kind::Unknown | Kind::OutOfSight | Kind::Again(_) => 0,
            Kind::Leaf(_, samples) => *samples,
            Kind::Bare | Kind::Tuple(..) | Kind::Struct(_) => 1,
            Kind::Option(_) | Kind::List(_) | Kind::Map(_) => 2,
            Kind::Names(names) => names.len(),
            Kind::Enum(variants) | Kind::Tagged { variants, .. } => variants.len(),
            Kind::Open { fields, .. } => {
                if fields.is_empty() {
                    ANYTHING.len()
                } else {
                    1
                }
            }
        }
    }

    /// Gives the place up, if the run that was about this place did not reach it.
    pub(super) fn out_of_sight(&mut self) {
        if self.unknown() {
            self.kind = Kind::OutOfSight;
        }
    }

    /// Appends the shape to `text`.
    pub(super) fn write(&self, text: &mut String) {
        match &self.kind {
            Kind::Unknown | Kind::OutOfSight => text.push('?'),
            Kind::Leaf(name, _) => text.push_str(name),
            Kind::Bare => {}
            Kind::Names(names) => write_named(&Kind::named(names), '<', '>', text, |_, _| {}),
            Kind::Again(levels) => {
                text.push('^');
                text.push_str(&levels.to_string());
            }
            Kind::Option(node) => {
                text.push_str("option<");
                node.write(text);
                text.push('>');
            }
            Kind::List(node) => {
                text.push('[');
                node.write(text);
                text.push(']');
            }
            Kind::Map(pair) => {
                text.push('{');
                pair.0.write(text);
                text.push(':');
                pair.1.write(text);
                text.push('}');
            }
            Kind::Tuple(items, length) => {
                text.push('(');
                for (place, item) in items.iter().enumerate() {
                    if place > 0 {
                        text.push(',');
                    }
                    item.write(text);
                }
                if *length > items.len() {
                    text.push(';');
                    text.push_str(&length.to_string());
                }
                text.push(')');
            }
            Kind::Struct(fields) => write_named(fields, '{', '}', text, write_after_colon),
            Kind::Enum(variants) => write_named(variants, '<', '>', text, |node, text| match node.kind {
                Kind::Bare => {}
                _ => write_after_colon(node, text),
            }),
            Kind::Open { fields, .. } if fields.is_empty() => {
                text.push_str(ANYTHING.get(self.attempt).unwrap_or(&"any"));
            }
            Kind::Open { fields, .. } => {
                text.push_str("any");
                write_named(fields, '{', '}', text, write_after_colon);
            }
            Kind::Tagged { tag, variants } => {
                text.push_str("any<");
                write_name(tag, text);
                text.push('=');
                write_named(variants, '<', '>', text, |node, text| match &node.kind {
                    Kind::Open { fields, .. } => write_named(fields, '{', '}', text, write_after_colon),
                    _ => write_after_colon(node, text),
                });
                text.push('>');
            }
        }
    }
}

fn write_after_colon(node: &Node, text: &mut String) {
    text.push(':');
    node.write(text);
}

fn write_named(named: &[Named], open: char, close: char, text: &mut String, write: impl Fn(&Node, &mut String)) {
    let mut sorted: Vec<_> = named.iter().collect();
    sorted.sort_by_key(|named| named.name);
    text.push(open);
    for (place, named) in sorted.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        write_name(named.name, text);
        write(&named.node, text);
    }
    text.push(close);
}

/// Writes a name in quotes. `Debug` would do the same today, but may change with the compiler.
fn write_name(name: &str, text: &mut String) {
    text.push('"');
    for letter in name.chars() {
        if letter == '"' || letter == '\\' {
            text.push('\\');
        }
        text.push(letter);
    }
    text.push('"');
}

//! Calls that runtimes make, with what is known of the arguments.

use std::fmt;

use crate::profile::{Condition, Operator};

/// What is known of an argument that a runtime passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Argument {
    /// Nothing, or too little: it differs between starts, machines or containers.
    Any,
    /// It is this.
    Is(u64),
    /// A standard descriptor, 0 to 2.
    Standard,
    /// A descriptor that the runtime opened, so above the standard ones.
    Descriptor,
    /// The address of something, so between the first page (`vm.mmap_min_addr`) and the end of user space.
    Address,
}

impl Argument {
    const fn range(self) -> Option<[u64; 2]> {
        match self {
            Self::Any => None,
            Self::Is(value) => Some([value, value]),
            Self::Standard => Some([0, 2]),
            // `fs.nr_open` is 2^20 where nobody raises it.
            Self::Descriptor => Some([3, 1 << 20]),
            Self::Address => Some([1 << 16, (1 << 47) - 1]),
        }
    }
}

/// A call that a runtime makes. Of arguments that are not in the list nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Of the system call.
    pub name: &'static str,
    /// From the first on.
    pub arguments: &'static [Argument],
}

impl Call {
    /// With whatever arguments.
    #[must_use]
    pub const fn any(name: &'static str) -> Self {
        Self { name, arguments: &[] }
    }

    /// What its arguments are certain to meet.
    #[must_use]
    pub fn conditions(self) -> Vec<Condition> {
        let ranges = (0..).zip(self.arguments.iter().map(|argument| argument.range()));
        ranges
            .filter_map(|(index, range)| Some((index, range?)))
            .flat_map(|(index, [least, most])| {
                [(Operator::GreaterOrEqual, least), (Operator::LessOrEqual, most)].map(|(op, value)| {
                    Condition {
                        index,
                        value,
                        value_two: None,
                        op,
                    }
                })
            })
            .collect()
    }
}

/// As in `openat(descriptor, address, 0x80000)`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.arguments.iter().map(|argument| match argument {
            Argument::Any => "any".to_owned(),
            Argument::Is(value @ 0..10) => value.to_string(),
            Argument::Is(value) => format!("{value:#x}"),
            Argument::Standard => "standard".to_owned(),
            Argument::Descriptor => "descriptor".to_owned(),
            Argument::Address => "address".to_owned(),
        });
        write!(f, "{}({})", self.name, words.collect::<Vec<_>>().join(", "))
    }
}

/// Where in a start a runtime makes a call. Two places where nothing differs that is known are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// The call.
    pub call: Call,
    /// Whether a start fails that is denied this call alone, by each errno but 0 by which it fails where all calls of
    /// the name are denied. Where that is not so, the runtime may get over it.
    pub decides: bool,
}

impl Site {
    pub(super) const fn new(name: &'static str, arguments: &'static [Argument]) -> Self {
        Self {
            call: Call { name, arguments },
            decides: false,
        }
    }

    pub(super) const fn decides(self) -> Self {
        Self {
            decides: true,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_call_holds_what_is_known_of_each_argument() {
        let call = Call {
            name: "openat",
            arguments: &[Argument::Descriptor, Argument::Any, Argument::Is(0x80000)],
        };
        let conditions: Vec<_> = call
            .conditions()
            .into_iter()
            .map(|one| (one.index, one.op, one.value))
            .collect();
        assert_eq!(
            conditions,
            [
                (0, Operator::GreaterOrEqual, 3),
                (0, Operator::LessOrEqual, 1 << 20),
                (2, Operator::GreaterOrEqual, 0x80000),
                (2, Operator::LessOrEqual, 0x80000),
            ]
        );
        assert_eq!(call.to_string(), "openat(descriptor, any, 0x80000)");
        assert_eq!(Call::any("openat").conditions(), []);
    }
}

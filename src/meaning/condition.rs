//! What the conditions of an entry say, as diagrams.

use super::diagram::{Bit, Diagrams, Node, Outcome, TooComplex};
use crate::filter::Selector;
use crate::profile::{Architecture, Condition, Operator, Rule};

/// How wide the arguments are that a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Width {
    /// The lower halves, see [`Architecture::compares_32_bits`]; the upper ones are taken as zero.
    Bits32,
    Bits64,
}

impl Width {
    pub(super) const fn of(architecture: Architecture) -> Self {
        if architecture.compares_32_bits() {
            Self::Bits32
        } else {
            Self::Bits64
        }
    }

    pub(super) const fn bits(self) -> u32 {
        match self {
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }
}

/// Where one condition holds. It compares 64 bits, as written; what an architecture does not have is zero.
pub(super) fn condition(
    diagrams: &mut Diagrams,
    condition: &Condition,
    width: Width,
) -> Result<Node, TooComplex> {
    let bit = |bit| (bit < width.bits()).then(|| Bit::new(condition.index, bit));
    let outcome = match condition.op {
        Operator::Equal => Outcome::EQUAL,
        Operator::NotEqual => Outcome::EQUAL.negated(),
        Operator::Less => LESS,
        Operator::GreaterOrEqual => LESS.negated(),
        Operator::Greater => GREATER,
        Operator::LessOrEqual => GREATER.negated(),
        Operator::MaskedEqual => {
            let datum = condition.value_two.unwrap_or(0);
            let masked = |at| bit(at).filter(|_| condition.value >> at & 1 == 1);
            return diagrams.compare(64, datum, masked, Outcome::EQUAL);
        }
    };
    diagrams.compare(64, condition.value, bit, outcome)
}

/// Where all conditions of an entry hold. `selector` is what argument 0 must be instead, for a companion rule.
pub(super) fn conditions(
    diagrams: &mut Diagrams,
    rule: &Rule,
    selector: Option<Selector>,
    width: Width,
) -> Result<Node, TooComplex> {
    let selector = selector.map(|selector| Condition {
        index: 0,
        value: selector.value.into(),
        value_two: None,
        op: Operator::Equal,
    });
    let own = rule
        .args
        .iter()
        .filter(|condition| selector.is_none() || condition.index != 0);
    own.chain(&selector).try_fold(Node::ALWAYS, |all, one| {
        let one = condition(diagrams, one, width)?;
        diagrams.and(all, one)
    })
}

const LESS: Outcome = Outcome {
    less: true,
    equal: false,
    greater: false,
};

const GREATER: Outcome = Outcome {
    less: false,
    equal: false,
    greater: true,
};

#[cfg(test)]
mod tests {
    use super::super::reference::holds;
    use super::*;

    const VALUES: [u64; 11] = [
        0,
        1,
        2,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0008,
        0x7fff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
        u64::MAX,
    ];

    #[test]
    fn every_operator_holds_where_the_specification_says() {
        for &op in Operator::ALL {
            for value in VALUES {
                for value_two in [None, Some(0), Some(2), Some(u64::MAX)] {
                    let written = Condition {
                        index: 1,
                        value,
                        value_two,
                        op,
                    };
                    let diagrams = &mut Diagrams::default();
                    let wide = condition(diagrams, &written, Width::Bits64).unwrap();
                    let narrow = condition(diagrams, &written, Width::Bits32).unwrap();
                    for given in VALUES {
                        let leaf = |node| diagrams.at(node, &[7, given, 7, 7, 7, 7]) == Node::ALWAYS;
                        assert_eq!(leaf(wide), holds(&written, given), "{written:?} of {given:#x}");
                        let lower = given & 0xffff_ffff;
                        assert_eq!(leaf(narrow), holds(&written, lower), "{written:?} of {lower:#x}");
                    }
                }
            }
        }
    }
}

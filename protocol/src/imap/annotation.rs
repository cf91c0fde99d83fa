//! What commands say of annotations: RFC 5257 section 5. Names of entries are not looked into here:
//! they are the store's affair.

/// Which of an attribute's two values is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationSide {
    /// Neither `.priv` nor `.shared`: both.
    Either,
    /// `.priv`
    Private,
    /// `.shared`
    Shared,
}

/// An attribute that FETCH asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnotationAttribute {
    /// `size`; else `value`.
    pub size: bool,
    /// Of which value.
    pub side: AnnotationSide,
}

/// A value that STORE or APPEND sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationSet {
    /// Of which entry.
    pub entry: String,
    /// `value.priv`; else `value.shared`.
    pub private: bool,
    /// `None`: NIL, it is removed.
    pub value: Option<Vec<u8>>,
}

/// What SORT compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationKey {
    /// Of which entry.
    pub entry: String,
    /// `value.priv`; else `value.shared`.
    pub private: bool,
}

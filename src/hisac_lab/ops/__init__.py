"""Operations on jagged and segmented arrays, a plain reference beside each fast version."""

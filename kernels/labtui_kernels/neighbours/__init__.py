"""What hidden states are near to: vectors of an index of text, or rows of the vocabulary's matrices."""
